"""The key of the model API: which one is in use, and whether it was refused."""

from pathlib import Path

import structlog

from agent_service.secret_file import SecretFile
from agent_service.settings import valid_key

_log = structlog.get_logger(__name__)


class Credentials:
    """Holds the key that the next call is to use; a key from a file changes with it."""

    def __init__(self, key: str, file: Path | None = None) -> None:
        self._key = SecretFile(key, file, valid_key)
        self._refused: str | None = None

    def current(self) -> str:
        """Give the key to use now."""
        return self._key.current()

    def refuse(self, key: str) -> None:
        """Remember that the model API did not accept `key`, the one that the failed call had used."""
        if self._refused != key:
            self._refused = key
            _log.error("Credentials were refused by the model API", action="put a valid key in place")

    def accept(self, key: str) -> None:
        """Remember that the model API accepted `key`."""
        if self._refused == key:
            self._refused = None
            _log.info("Credentials were accepted by the model API")

    @property
    def refused(self) -> bool:
        """Whether the key in use is the one that was refused last."""
        return self._refused is not None and self._refused == self.current()
