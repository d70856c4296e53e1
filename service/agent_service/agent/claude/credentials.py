"""The key for the model API: which one is in use, and whether it was refused."""

from collections.abc import Callable
from pathlib import Path

import structlog

from agent_service.config.secret_file import SecretFile
from agent_service.config.values import valid_key

_log = structlog.get_logger(__name__)

# Only these types mean that the key is not accepted. A 401 or 403 in any other form comes from something in between: a
# web firewall that blocks one user's words, or a gateway's login page.
OF_CREDENTIALS = frozenset({"authentication_error", "permission_error"})


class Credentials:
    """Holds the key for the next call. A key from a file changes with the file."""

    def __init__(
        self, key: str, file: Path | None = None, report_refused: Callable[[bool], None] = lambda _: None
    ) -> None:
        """Take the key and the file that may change it.

        `report_refused` is called with whether the key in use is refused.
        """
        self._key = SecretFile(key, file, valid_key)
        self._report_refused = report_refused
        self._refused: str | None = None

    def current(self) -> str:
        """Return the key to use now."""
        key = self._key.current()
        # Reported on every call: a new key is a new chance, and only reading the file shows that there is one.
        self._report_refused(key == self._refused)
        return key

    def refuse(self, key: str) -> None:
        """Record that the model API did not accept `key`, which the failed call used."""
        if self._refused != key:
            self._refused = key
            _log.error("Credentials were refused by the model API", action="replace the key with a valid one")
        self.current()

    def accept(self, key: str) -> None:
        """Record that the model API accepted `key`."""
        if self._refused == key:
            self._refused = None
            _log.info("Credentials were accepted by the model API")
            self.current()

    @property
    def refused(self) -> bool:
        """Whether the key in use is the one that was refused last."""
        return self.current() == self._refused
