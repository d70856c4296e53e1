"""One of several API processes, started by a supervisor (see `supervisor.py`)."""

import asyncio
import contextlib
import socket
import sys
from types import FrameType

from agent_service.app import create_app
from agent_service.lifecycle import Lifecycle
from agent_service.server.multiprocess.channel import BEAT, BEAT_SECONDS, Assignment, Order, receive_assignment
from agent_service.server.uvicorn_server import Server
from agent_service.telemetry import logs, multiprocess_metrics

_FAILED = 1

# uvicorn ticks ten times a second.
_TICKS_OF_A_BEAT = round(10 * BEAT_SECONDS)


class _Supervised(Server):
    """A server that receives its orders on the link, and sends heartbeats on it."""

    def __init__(self, assignment: Assignment, link: socket.socket) -> None:
        lifecycle = Lifecycle()
        gateway = None if assignment.gateway is None else socket.socket(fileno=assignment.gateway)
        super().__init__(
            create_app(assignment.settings, lifecycle, gateway_listener=gateway),
            lifecycle,
            assignment.settings,
            on_listening=self._listen_to_orders,
            opens_websockets=assignment.settings.proxies,
        )
        self._link = link

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain. Only the supervisor decides whether to cut."""
        self.drain()

    async def on_tick(self, counter: int) -> bool:
        """Send a heartbeat: the event loop is running."""
        if counter % _TICKS_OF_A_BEAT == 0:
            with contextlib.suppress(OSError):
                self._link.send(BEAT)
        return await super().on_tick(counter)

    def _listen_to_orders(self) -> None:
        self._link.setblocking(False)
        asyncio.get_running_loop().add_reader(self._link, self._receive)

    def _receive(self) -> None:
        try:
            received = self._link.recv(64)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            asyncio.get_running_loop().remove_reader(self._link)
        if Order.CUT.value in received:
            self.cut()
        else:
            self.drain()


def main() -> int:
    """Serve until ordered to end, and return the exit code."""
    link = socket.socket(fileno=sys.stdin.fileno())
    try:
        assignment = receive_assignment(link)
    except ConnectionError:
        return _FAILED
    logs.configure(level=assignment.settings.lowest_level, form=assignment.settings.log_format, process=assignment.slot)
    multiprocess_metrics.join(assignment.slot)
    server = _Supervised(assignment, link)
    with socket.socket(fileno=assignment.listener) as listener:
        server.run(sockets=[listener])
    return 0 if server.started else _FAILED


if __name__ == "__main__":
    sys.exit(main())
