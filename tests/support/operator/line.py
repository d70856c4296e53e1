"""A TCP line to the API server that can be cut, or go dead silently."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import yaml

CHUNK = 65536


class Line:
    """Forwards TCP connections to a server until it is cut or frozen, and again once it is mended."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._sockets: set[socket.socket] = set()
        self._whole = True
        self._frozen = False
        self._dead: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close all connections, and every new one at once."""
        self._whole = False
        for each in list(self._sockets):
            _close(each)

    def freeze(self) -> None:
        """Keep all connections open, and accept new ones, but forward nothing: not even that one side closed.

        What was open stays open for ever, as with a router that lost its connection table.
        """
        self._frozen = True
        self._dead |= self._sockets

    def mend(self) -> None:
        """Forward new connections again."""
        self._whole = True
        self._frozen = False

    def close(self) -> None:
        """Close it permanently."""
        _close(self._listener)
        self.cut()
        for each in self._dead:
            _close(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._whole:
                _close(client)
                continue
            if self._frozen:
                self._dead.add(client)
                continue
            server = socket.create_connection(self._target)
            self._sockets |= {client, server}
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                if source in self._dead:
                    return
                target.sendall(data)
        if source in self._dead:
            return
        for each in (source, target):
            _close(each)
            self._sockets.discard(each)


@contextmanager
def line_to(kubeconfig: Path, folder: Path) -> Iterator[tuple[Line, Path]]:
    """Yield a line to the cluster of `kubeconfig`, and a kubeconfig in `folder` that uses it."""
    config = yaml.safe_load(kubeconfig.read_text())
    context = next(each["context"] for each in config["contexts"] if each["name"] == config["current-context"])
    cluster = next(each["cluster"] for each in config["clusters"] if each["name"] == context["cluster"])
    server = urlsplit(cluster["server"])
    line = Line(server.hostname or "", server.port or 443)
    cluster["server"] = f"https://127.0.0.1:{line.port}"
    # The certificate is checked against the name of the server, not that of the line.
    cluster["tls-server-name"] = server.hostname
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    try:
        yield line, path
    finally:
        line.close()


def _close(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
