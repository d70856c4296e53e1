"""Access keys of AWS, from files that may change."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent_service.agent.claude.credentials import Credential
from agent_service.config.providers import AWS_KEYS, AWS_SESSION_TOKEN_NAME
from agent_service.config.secret_file import SecretFiles
from agent_service.config.values import valid_key

_NAMES = (*AWS_KEYS, AWS_SESSION_TOKEN_NAME)


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """What signs a request to AWS. Temporary credentials have a session token."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    made_from: Hashable = None

    @property
    def origin(self) -> Hashable:
        """What the keys were made from; the keys themselves if the user provided them."""
        return self if self.made_from is None else self.made_from

    @property
    def secrets(self) -> tuple[str, ...]:
        """The parts that authorize, and the id, which names the account."""
        return tuple(text for text in (self.secret_key, self.session_token, self.access_key) if text)


class AwsKeyFiles:
    """A `Source` of access keys, which change with their files if they have some."""

    def __init__(self, keys: AwsKeys, folder: Path | None = None) -> None:
        """Start with `keys`. `folder` has one file for each of the three settings; None if there is none."""
        files = () if folder is None else tuple(folder / name for name in _NAMES)
        self._keys = SecretFiles(keys, files, _parsed)

    def origin(self) -> Hashable:
        """Return the keys."""
        return self._keys.current()

    async def current(self) -> AwsKeys:
        """Return the keys."""
        return self._keys.current()

    def discard(self, credential: Credential) -> None:
        """Do nothing: only the user has other keys."""


def _parsed(texts: Sequence[str | None]) -> AwsKeys:
    access_key, secret_key, session_token = ("" if text is None else text.strip() for text in texts)
    token = valid_key(session_token) if session_token else None
    return AwsKeys(valid_key(access_key), valid_key(secret_key), token)
