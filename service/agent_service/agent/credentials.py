"""The key of the model API: where it comes from, and whether it was refused."""

from pathlib import Path

import structlog

from agent_service.settings import valid_key

_log = structlog.get_logger(__name__)


class Credentials:
    """Holds the key that the next call is to use.

    A key that comes from a file is read again whenever the file is another one. Kubernetes replaces a mounted Secret
    by swapping a symbolic link (atomic writer of the kubelet), so a `stat` for each request sees it, and costs
    microseconds; no watcher can then lag behind or die unseen.
    """

    def __init__(self, key: str, file: Path | None = None) -> None:
        self._key = key
        self._file = file
        # None is no file's mark: the first request always reads.
        self._mark: tuple[int, ...] | None = None
        self._refused: str | None = None

    def current(self) -> str:
        """Give the key to use now. A file that is gone or unusable leaves the last good key in use."""
        if self._file is None:
            return self._key
        try:
            seen = self._file.stat()
            mark: tuple[int, ...] = (seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_size)
        except OSError:
            mark = ()
        if mark != self._mark:
            self._mark = mark
            self._read(self._file)
        return self._key

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

    def _read(self, file: Path) -> None:
        try:
            key = valid_key(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            _log.warning("Key file could not be used, kept the last key", file=str(file), reason=type(error).__name__)
            return
        if key != self._key:
            self._key = key
            _log.info("Key file had changed, took the new key", file=str(file))
