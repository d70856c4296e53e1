"""An address in front of servers, as a Service or a name in DNS is: new connections go to where it points now."""

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Forward:
    """Passes each connection on to the port that was the target when it was made; an old one stays where it is."""

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
                """A server that is away is what tests are about."""

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
    """Listen on a loopback port, and pass connections on to the port `target` of this machine."""
    forward = Forward(target)
    thread = threading.Thread(target=forward.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield forward
    finally:
        forward.server.shutdown()
        forward.server.server_close()
        thread.join()
