"""Host names that the service accepts: a page that rebinds its name to this machine must not reach an agent."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support.agent import Service, running_service
from support.redis_server import RedisServer

CLIENT_KEY = "a-client-key-of-some-length"


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory, redis_process: RedisServer) -> Iterator[dict[str, Service]]:
    """Run a service without client keys, one with keys, one with its own host names, and one that accepts any host."""
    settings: dict[str, dict[str, str]] = {
        "open": {},
        "keyed": {"API_KEYS": CLIENT_KEY},
        "named": {"ALLOWED_HOSTS": "agent.example.com, *.apps.example.com, [::1]"},
        "any": {"ALLOWED_HOSTS": "*"},
    }
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                running_service(
                    tmp_path_factory.mktemp(name),
                    MODEL_PROVIDER="echo",
                    REDIS_URL=redis_process.url,
                    RATE_LIMIT_REQUESTS="0",
                    **given,
                )
            )
            for name, given in settings.items()
        }


def ask(service: Service, *hosts: str, path: str = "/chat", version: str = "1.1") -> tuple[int, str]:
    """Return the status and body of the answer to a raw request with these Host headers."""
    body = b'{"message":"hi"}' if path == "/chat" else b""
    method = "POST" if body else "GET"
    lines = [f"{method} {path} HTTP/{version}", *(f"Host: {host}" for host in hosts), "Connection: close"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    port = int(service.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall("\r\n".join(lines).encode() + body)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    head, _, content = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), content.decode()


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "EVIL.example.",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1.nip.io:80",
        "0x7f.1.evil.example",
        "xn--lcalhost-54a.example",
    ],
)
@pytest.mark.parametrize("path", ["/chat", "/", "/docs", "/openapi.json", "/metrics", "/page/chat.js", "/tasks"])
def test_without_client_keys_a_foreign_host_on_loopback_is_refused(
    services: dict[str, Service], host: str, path: str
) -> None:
    status, body = ask(services["open"], host, path=path)
    assert status == 421
    assert "ALLOWED_HOSTS" in json.loads(body)["detail"]
    assert "evil" not in body


@pytest.mark.parametrize("host", ["localhost:80@evil.example", "evil.example#localhost", "[::1].evil.example"])
def test_an_invalid_host_is_refused_before_it_is_compared(services: dict[str, Service], host: str) -> None:
    status, body = ask(services["open"], host)
    assert status == 400
    assert "evil" not in body


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST", "app.localhost:1", "127.0.0.1:9", "127.9.9.9", "[::1]:8000",
             "192.0.2.7", "laptop:8000", "agents"]
)  # fmt: skip
def test_without_client_keys_names_of_this_machine_and_addresses_are_accepted(
    services: dict[str, Service], host: str
) -> None:
    assert ask(services["open"], host)[0] == 200


def test_each_of_several_hosts_must_be_allowed(services: dict[str, Service]) -> None:
    assert ask(services["open"], "localhost", "evil.example")[0] in {400, 421}
    assert ask(services["open"], "evil.example", "localhost")[0] in {400, 421}


def test_with_client_keys_any_host_is_accepted(services: dict[str, Service]) -> None:
    assert ask(services["keyed"], "agent.example")[0] == 401
    assert ask(services["keyed"], "agent.example", path="/")[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("agent.example.com", 200),
        ("AGENT.example.com.:443", 200),
        ("blue.apps.example.com", 200),
        ("a.b.apps.example.com", 200),
        ("[::1]:8000", 200),
        ("apps.example.com", 421),
        ("evilapps.example.com", 421),
        ("agent.example.com.evil.example", 421),
        ("localhost", 421),
        ("127.0.0.1", 421),
        ("", 421),
    ],
)
def test_only_the_configured_names_are_accepted(services: dict[str, Service], host: str, status: int) -> None:
    assert ask(services["named"], host)[0] in ({status} if status == 200 else {400, 421})


def test_a_star_accepts_any_host(services: dict[str, Service]) -> None:
    assert ask(services["any"], "evil.example")[0] == 200


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
@pytest.mark.parametrize("name", ["open", "named"])
def test_probes_are_answered_whatever_their_host(services: dict[str, Service], name: str, path: str) -> None:
    assert ask(services[name], "10.0.0.9:8000", path=path)[0] in {200, 503}
    assert ask(services[name], "pod.of.a.cluster", path=path)[0] in {200, 503}
