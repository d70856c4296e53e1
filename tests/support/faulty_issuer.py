"""An issuer of tokens in the process of a test, which answers as the test defines."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from joserfc.jwk import ECKey, KeySet

from support.issuer import Issuer


def ec_key(kid: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": kid, "use": "sig", "alg": "ES256"})


@dataclass
class FaultyIssuer(Issuer):
    """An issuer with one key, and the number of requests that it received."""

    scheme: str = "http"
    requests: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def key_set(self) -> bytes:
        return json.dumps(KeySet([*self.keys]).as_dict(private=False)).encode()

    def discovery(self, **changes: str) -> bytes:
        return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys.json", **changes}).encode()


@contextmanager
def answering(
    answer: Callable[[str], tuple[int, bytes]],
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[FaultyIssuer]:
    """Run an issuer that answers a request for a path with a status and a body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.requests += 1
            status, body = answer(self.path)
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that http.server gives
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    issuer = FaultyIssuer(Path(), server.server_port, [ec_key("one")], scheme="http" if tls is None else "https")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
