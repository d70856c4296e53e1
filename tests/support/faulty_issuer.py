"""An issuer of tokens in the process of a test, which answers as the test defines."""

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from joserfc.jwk import ECKey, KeySet

from support.http_server import QuietHandler, serving_http
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

    class Handler(QuietHandler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.requests += 1
            status, body = answer(self.path)
            self.send(status, body, headers or {})

    with serving_http(Handler, tls) as port:
        issuer = FaultyIssuer(Path(), port, [ec_key("one")], scheme="http" if tls is None else "https")
        yield issuer
