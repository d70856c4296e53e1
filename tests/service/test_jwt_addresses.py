"""Where the keys of an issuer may be: not at a metadata service, and not without TLS if the issuer has TLS."""

import asyncio
import errno
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from agent_service.auth.tokens.tokens import Tokens
from agent_service.telemetry.caller_metrics import CallerMetrics
from support.agent import StartService
from support.eventually import eventually, eventually_async
from support.faulty_issuer import answering
from testbed.certificates import Authority

METADATA_ADDRESS = "169.254.169.254"
NAMES = {"metadata.example": [METADATA_ADDRESS], "mixed.example": [METADATA_ADDRESS, "fd00:ec2::254"]}


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Resolve the names of the test, and return the addresses, other than loopback, to which this process connects.

    Such a connection fails, so that no test leaves the machine.
    """
    addresses: list[object] = []
    resolve = socket.getaddrinfo

    def resolved(name: str, port: int, *arguments: Any, **options: Any) -> list[Any]:
        return [entry for each in NAMES.get(name, [name]) for entry in resolve(each, port, *arguments, **options)]

    loop = asyncio.SelectorEventLoop
    connect = loop.sock_connect

    async def observed(self: Any, sock: socket.socket, address: Any) -> None:
        if address[0] != "127.0.0.1":
            addresses.append(address)
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Refused by the test")
        await connect(self, sock, address)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setattr(loop, "sock_connect", observed)
    return addresses


async def failure(file: Path) -> str:
    """Wait until the keys of the issuer in a file could not be fetched, and return why."""
    tokens = Tokens(file, CallerMetrics(CollectorRegistry()))
    async with tokens.running():

        async def found() -> str | None:
            # A busy machine may be too slow for one attempt.
            kind = tokens.states()[0].failure
            return None if kind == "timed_out" else kind

        return await eventually_async(found, "the keys could not be fetched", seconds=90)


@pytest.mark.parametrize(
    "host", [METADATA_ADDRESS, "[fd00:ec2::254]", f"[::ffff:{METADATA_ADDRESS}]", "100.100.100.200", *NAMES]
)
async def test_keys_at_a_metadata_service_are_not_fetched(host: str, tmp_path: Path, connected: list[object]) -> None:
    """The issuer itself names the address, literally or by a name that resolves to it."""
    with answering(lambda _: (200, issuer.discovery(jwks_uri=f"http://{host}/keys.json"))) as issuer:
        assert await failure(issuer.file(tmp_path / "jwt.json")) == "address_refused"
    assert connected == []


async def test_keys_at_another_address_are_fetched_from_there(tmp_path: Path, connected: list[object]) -> None:
    """The test above observes all connections."""
    with answering(lambda _: (200, issuer.discovery(jwks_uri="http://192.0.2.7/keys.json"))) as issuer:
        assert await failure(issuer.file(tmp_path / "jwt.json")) == "connection_refused"
    assert ("192.0.2.7", 80) in connected


@pytest.mark.parametrize(("has_tls", "status", "kind"), [(True, "up", None), (False, "down", "unreadable")])
def test_keys_of_an_issuer_with_tls_are_not_fetched_without_it(
    has_tls: bool, status: str, kind: str | None, start_service: StartService, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("issuer", [], ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)

    def answer(path: str) -> tuple[int, bytes]:
        if path == "/keys.json":
            return 200, secure.key_set()
        return 200, secure.discovery(jwks_uri=f"{(secure if has_tls else plain).url}/keys.json")

    with answering(answer, tls=context) as secure, answering(lambda _: (200, secure.key_set())) as plain:
        file = secure.file(tmp_path / "jwt.json")
        service = start_service(MODEL_PROVIDER="echo", JWT_FILE=str(file), SSL_CERT_FILE=str(authority.certificate))

        def is_known() -> bool:
            found = service.get("/health").json()["components"]["issuers"]
            return (found["status"], found.get("kind")) == (status, kind) and "of 0" not in found["detail"]

        eventually(is_known, "the result of the first fetch", seconds=90)
        assert plain.requests == 0
