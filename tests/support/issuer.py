"""An issuer of tokens (OpenID Connect) in a process of its own. Its keys and tokens are made by joserfc."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from support.eventually import eventually
from testbed.ports import free_port

AUDIENCE = "https://agent.example"

Key = RSAKey | ECKey | OKPKey


def rsa_key(kid: str, *, bits: int = 2048, algorithm: str = "RS256") -> RSAKey:
    return RSAKey.generate_key(bits, {"kid": kid, "use": "sig", "alg": algorithm})


@dataclass
class Issuer:
    """Serves its discovery document and its key set while its process runs."""

    folder: Path
    port: int
    keys: list[Key] = field(default_factory=lambda: [rsa_key("one")])
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def publish(self, *keys: Key) -> None:
        """Publish these keys, and sign with the last of them."""
        self.keys = list(keys)
        document = {"issuer": self.url, "jwks_uri": f"{self.url}/keys.json"}
        _write(self.folder / ".well-known" / "openid-configuration", document)
        _write(self.folder / "keys.json", KeySet([*self.keys]).as_dict(private=False))

    def start(self) -> None:
        command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(self.folder)]
        with (self.folder / "requests.log").open("ab") as log:
            self.process = subprocess.Popen([*command, str(self.port)], stdout=log, stderr=log)
        eventually(lambda: _answers(f"{self.url}/keys.json"), "the issuer answers")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def fetches(self) -> int:
        """Return how many times the key set was requested by others than this class."""
        log = (self.folder / "requests.log").read_text(encoding="utf-8")
        return log.count('"GET /keys.json')

    def token(self, *, key: Key | None = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return a token of a client `alice` that is valid for five minutes; a claim that is None is left out."""
        key = key or self.keys[-1]
        now = int(time.time())
        whole = {"iss": self.url, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 300, **claims}
        whole = {name: value for name, value in whole.items() if value is not None}
        head = {"alg": key.get("alg") or "RS256", "kid": key.kid, **(header or {})}
        return jwt.encode(head, whole, key, algorithms=[str(head["alg"])])

    def file(self, path: Path, **entry: Any) -> Path:
        """Write a JWT_FILE with this issuer."""
        _write(path, {"issuers": [{"issuer": self.url, "audiences": [AUDIENCE], **entry}]})
        return path


@contextmanager
def running_issuer(folder: Path) -> Iterator[Issuer]:
    """Run an issuer with one RSA key while the context is active."""
    folder.mkdir()
    issuer = Issuer(folder, free_port())
    issuer.publish(*issuer.keys)
    issuer.start()
    try:
        yield issuer
    finally:
        issuer.stop()


def _write(file: Path, document: object) -> None:
    file.parent.mkdir(exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(json.dumps(document), encoding="utf-8")
    new.rename(file)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
