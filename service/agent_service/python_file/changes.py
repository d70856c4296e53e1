"""Load the file again when its content has changed, in a thread beside the event loop that answers."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import structlog

from agent_service.python_file.agent_file import AgentFile
from agent_service.python_file.failures import place_in
from agent_service.python_file.loading import FileError

_log = structlog.get_logger(__name__)

# Its content is compared, because the kubelet replaces a link of a folder above, and editors replace or truncate files.
_EVERY_SECONDS = 1.0
# An editor or a copy may not have written all of it yet.
_SETTLED_SECONDS = 0.2
# Longer than any import of packages takes under a small CPU limit.
_SLOW_SECONDS = 60.0


@contextmanager
def following(agent: AgentFile[Any], prepare: Callable[[], None] | None = None) -> Iterator[None]:
    """Load new versions of the file while the context lasts.

    `prepare` is called before each load, for what turns would otherwise wait for.
    """
    follower = _Follower(agent, prepare)
    follower.start()
    try:
        yield
    finally:
        follower.ended.set()


class _Follower(threading.Thread):
    def __init__(self, agent: AgentFile[Any], prepare: Callable[[], None] | None) -> None:
        # A daemon: a file that never finishes its import must not keep the process.
        super().__init__(name="reload", daemon=True)
        self._agent = agent
        self._prepare = prepare
        self.ended = threading.Event()

    def run(self) -> None:
        """Compare the content at intervals, and load what has changed and settled."""
        while not self.ended.wait(_EVERY_SECONDS):
            if self._agent.changed() and self._settled():
                self._load()

    def _settled(self) -> bool:
        before = self._agent.content()
        return not self.ended.wait(_SETTLED_SECONDS) and self._agent.content() == before

    def _load(self) -> None:
        file = self._agent.path
        slow = threading.Timer(_SLOW_SECONDS, self._report_slow)
        slow.daemon = True
        slow.start()
        try:
            # The turn that uses what it prepares reports the error.
            with suppress(Exception):
                if self._prepare is not None:
                    self._prepare()
            self._agent.load_again()
        except FileError as error:
            _log.error("Changed file has an error; the version loaded before stays in force", error=str(error))
        else:
            _log.info(f"Loaded {file.name} again", file=str(file))
        finally:
            slow.cancel()

    def _report_slow(self) -> None:
        # The thread may be in a call without end, and then notices no further change.
        place = place_in(sys._current_frames().get(self.ident or 0), self._agent.path)  # noqa: SLF001  documented
        _log.warning(
            "Changed file is still being loaded; the version loaded before stays in force. If it waits without end "
            "there, correct it and restart the runtime",
            file=place[0] if place else str(self._agent.path),
            line=place[1] if place else None,
            seconds=_SLOW_SECONDS,
        )
