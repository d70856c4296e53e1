"""The key of the model API: which one is in use, and whether it was refused."""

from collections.abc import Callable
from pathlib import Path

import structlog

from agent_service.config.secret_file import SecretFile
from agent_service.config.values import valid_key

_log = structlog.get_logger(__name__)


class Credentials:
    """Holds the key that the next call is to use; a key from a file changes with it."""

    def __init__(self, key: str, file: Path | None = None, tell: Callable[[bool], None] = lambda _: None) -> None:
        """Take the key, and the file that it may change with; `tell` is told whether the key in use is refused."""
        self._key = SecretFile(key, file, valid_key)
        self._tell = tell
        self._refused: str | None = None

    def current(self) -> str:
        """Give the key to use now."""
        key = self._key.current()
        # Told each time: another key is another chance, and nothing but a look at the file says that it is there.
        self._tell(key == self._refused)
        return key

    def refuse(self, key: str) -> None:
        """Remember that the model API did not accept `key`, the one that the failed call had used."""
        if self._refused != key:
            self._refused = key
            _log.error("Credentials were refused by the model API", action="put a valid key in place")
        self.current()

    def accept(self, key: str) -> None:
        """Remember that the model API accepted `key`."""
        if self._refused == key:
            self._refused = None
            _log.info("Credentials were accepted by the model API")
            self.current()

    @property
    def refused(self) -> bool:
        """Whether the key in use is the one that was refused last."""
        return self.current() == self._refused
