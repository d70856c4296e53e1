"""An address in front of servers, like a Service or a DNS name: new connections go to its current target."""

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Forward:
    """Forwards each connection to the port that was the target when it was made; existing ones stay where they are."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.connections = 0
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer.connections += 1
                with socket.create_connection(("127.0.0.1", outer.target)) as server:
                    _pump(self.request, server)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: object) -> None:
                """Print nothing: tests make the server unavailable on purpose."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self.server.server_address[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"


def _pump(client: socket.socket, server: socket.socket) -> None:
    other = {client: server, server: client}
    while True:
        for sock in select.select([client, server], [], [])[0]:
            try:
                got = sock.recv(65536)
                if not got:
                    return
                other[sock].sendall(got)
            except OSError:
                return


@contextmanager
def forwarding(target: int) -> Iterator[Forward]:
    """Listen on a loopback port, and forward connections to the port `target` of this machine."""
    forward = Forward(target)
    thread = threading.Thread(target=forward.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield forward
    finally:
        forward.server.shutdown()
        forward.server.server_close()
        thread.join()
