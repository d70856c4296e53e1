"""Secrets of tool servers, each from a file in TOOL_SECRETS_DIR that is read again when it changes."""

import re
from pathlib import Path

from agent_service.config.secret_file import SecretFile
from agent_service.config.tools import SecretKey


class CredentialsError(Exception):
    """The credentials for a server cannot be had. The message contains no secret. `kind` is the reason in one word."""

    kind = "no_secret"


class TokenError(CredentialsError):
    """The token endpoint gives no token."""

    kind = "no_token"


class SecretValue:
    """The value of a key of a Secret."""

    def __init__(self, folder: Path, key: SecretKey) -> None:
        self._key = key
        self._file = SecretFile("", folder / key.name / key.key, _header_text)

    def current(self) -> str:
        """Return the value.

        Raises:
            CredentialsError: if there is none.
        """
        value = self._file.current()
        if not value:
            raise CredentialsError(f"the key {self._key.key} of the Secret {self._key.name} is missing or empty")
        return value


def _header_text(text: str) -> str:
    value = text.strip()
    if re.search(r"[^\t\x20-\x7e]", value):
        raise ValueError("is not one line of printable ASCII characters")
    return value
