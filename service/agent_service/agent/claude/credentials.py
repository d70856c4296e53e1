"""The credential for the model API: which one is in use, and whether it was refused."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import structlog

from agent_service.agent.errors import CredentialsRefusedError
from agent_service.config.secret_file import SecretFile
from agent_service.config.values import valid_key

_log = structlog.get_logger(__name__)

# Only these types mean that the credential is not accepted. A 401 or 403 in any other form comes from something in
# between: a web firewall that blocks one user's words, or a gateway's login page.
OF_CREDENTIALS = frozenset({"authentication_error", "permission_error"})


class Credential(Protocol):
    """What authorizes a call."""

    @property
    def origin(self) -> Hashable:
        """What the user provided, from which the credential was made. Only a change of it makes another attempt."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts of the credential that may appear in no log."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that is sent as it is."""

    value: str = field(repr=False)

    @property
    def origin(self) -> Hashable:
        """The key itself."""
        return self.value

    @property
    def secrets(self) -> tuple[str, ...]:
        """The key itself."""
        return (self.value,)


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, which was made from `origin` and lives for a time."""

    value: str = field(repr=False)
    origin: Hashable = field(repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The token."""
        return (self.value,)


C = TypeVar("C", bound=Credential)
C_co = TypeVar("C_co", bound=Credential, covariant=True)


class Source(Protocol[C_co]):
    """Where credentials come from: files, or an exchange that is repeated before the credential expires."""

    def origin(self) -> Hashable:
        """Return what the user provides now, as `Credential.origin`."""

    async def current(self) -> C_co:
        """Return the credential to use now, renewed if it must be.

        Raises:
            ModelError: when there is none; CredentialsRefusedError when the issuer refused to make one.
        """

    def discard(self, credential: Credential) -> None:
        """Replace a credential that was not accepted, if another can be made from the same origin."""


class ApiKeys:
    """A `Source` of a key, which changes with its file if it has one."""

    def __init__(self, key: str, file: Path | None = None) -> None:
        self._key = SecretFile(key, file, valid_key)

    def origin(self) -> Hashable:
        """Return the key."""
        return self._key.current()

    async def current(self) -> ApiKey:
        """Return the key."""
        return ApiKey(self._key.current())

    def discard(self, credential: Credential) -> None:
        """Do nothing: only the user has another key."""


class Credentials(Generic[C]):
    """Holds the credential for the next call, and whether what it was made from is refused."""

    def __init__(self, source: Source[C], report_refused: Callable[[bool], None] = lambda _: None) -> None:
        """Take the source. `report_refused` is called with whether the credential in use is refused."""
        self._source = source
        self._report_refused = report_refused
        self._refused: Hashable = None

    async def current(self) -> C:
        """Return the credential to use now. Errors as `Source.current`."""
        # Reported on every call: a new key is a new chance, and only reading the file shows that there is one.
        origin = self._report()
        try:
            return await self._source.current()
        except CredentialsRefusedError:
            self._note_refused(origin)
            raise

    def refuse(self, credential: C) -> None:
        """Record that the model API did not accept `credential`, which the failed call used."""
        self._source.discard(credential)
        self._note_refused(credential.origin)

    def accept(self, credential: C) -> None:
        """Record that the model API accepted `credential`."""
        if self._refused == credential.origin:
            self._refused = None
            _log.info("Credentials were accepted by the model API")
            self._report()

    @property
    def refused(self) -> bool:
        """Whether the credential in use is made from what was refused last."""
        return self._report() == self._refused

    def _note_refused(self, origin: Hashable) -> None:
        if self._refused != origin:
            self._refused = origin
            _log.error("Credentials were refused by the model API", action="replace them with valid ones")
        self._report()

    def _report(self) -> Hashable:
        origin = self._source.origin()
        self._report_refused(origin == self._refused)
        return origin


AnyCredentials = Credentials[Any]
"""Credentials of any provider."""


class Refusable(Protocol):
    """What may be refused."""

    @property
    def refused(self) -> bool:
        """Whether no call can succeed until the user provides other credentials."""


class AllCredentials:
    """The credentials of several providers. They are refused when those of each are."""

    def __init__(self, report_refused: Callable[[bool], None]) -> None:
        """Start without any. `report_refused` is called with whether those of each are refused."""
        self._report_refused = report_refused
        self._refused: dict[str, bool] = {}
        self._all: list[AnyCredentials] = []

    def report_of(self, name: str) -> Callable[[bool], None]:
        """Return what the credentials of a provider report to."""
        self._refused[name] = False

        def report(refused: bool) -> None:
            self._refused[name] = refused
            self._report_refused(all(self._refused.values()))

        return report

    def add(self, credentials: AnyCredentials) -> None:
        """Add the credentials of a provider."""
        self._all.append(credentials)

    @property
    def refused(self) -> bool:
        """Whether those of each provider are refused."""
        # Each is asked: only that shows that one has changed.
        return sum(each.refused for each in self._all) == len(self._all)


def hidden(text: str, credential: Credential) -> str:
    """Return a text without the secrets of a credential. Gateways quote the key that they refuse."""
    for secret in credential.secrets:
        text = text.replace(secret, "***")
    return text
