"""Settings that are read from files in SECRETS_DIR and follow their changes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from agent_service.config.file_mark import file_mark

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class SecretFiles(Generic[T]):
    """The value of settings that several files hold together. Without files, the value never changes.

    The files are read again whenever the `stat` of one changes. Kubernetes replaces a mounted Secret by swapping a
    symbolic link (atomic writer of the kubelet), so a `stat` per request detects it, and costs microseconds. A watcher
    could lag behind or die unnoticed.
    """

    def __init__(self, value: T, files: Sequence[Path], parse: Callable[[Sequence[str | None]], T]) -> None:
        """Start with `value`.

        Args:
            value: the first value.
            files: the files, in one folder.
            parse: converts the texts of the files, None for one that is missing, to a value, or raises ValueError.
        """
        self._value = value
        self._files = files
        self._parse = parse
        # None is not the mark of any file, so the first request reads the files. `()` is the mark of a missing file:
        # without an initial value, a missing file is not a change.
        self._marks: tuple[tuple[int, ...], ...] | None = None if value else tuple(() for _ in files)

    def current(self) -> T:
        """Return the current value. If the files are missing or unusable, this is the last valid one."""
        if not self._files:
            return self._value
        marks = tuple(map(file_mark, self._files))
        if marks != self._marks:
            self._marks = marks
            self._read()
        return self._value

    def _read(self) -> None:
        try:
            value = self._parse(_texts(self._files))
        except (OSError, ValueError) as error:
            _log.warning(
                "File of a setting could not be used, kept the previous value",
                file=str(self._files[0]),
                reason=type(error).__name__,
            )
            return
        if value != self._value:
            self._value = value
            _log.info("File of a setting changed, applied the new value", file=str(self._files[0]))


class SecretFile(SecretFiles[T]):
    """The value of a setting that one file holds."""

    def __init__(self, value: T, file: Path | None, parse: Callable[[str], T]) -> None:
        """Start with `value`. `parse` converts the text of the file to a value, or raises ValueError."""

        def parsed(texts: Sequence[str | None]) -> T:
            if texts[0] is None:
                raise FileNotFoundError
            return parse(texts[0])

        super().__init__(value, () if file is None else (file,), parsed)


def _texts(files: Sequence[Path]) -> list[str | None]:
    """Return the texts of files in one folder; None for one that is missing.

    The kubelet replaces all of them together, by one symbolic link that each file's own link goes through. Followed
    once, it leads to a folder that stays as it is.
    """
    first = files[0].resolve()
    folder = first.parent if first.name == files[0].name else files[0].parent
    if any(file.exists() and not (folder / file.name).exists() for file in files):
        folder = files[0].parent
    found = (folder / file.name for file in files)
    return [file.read_text(encoding="utf-8") if file.exists() else None for file in found]
