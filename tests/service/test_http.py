"""HTTP as proxies, monitors and old clients speak it: versions, methods, hosts, addresses, paths, idle connections."""

import json
import socket
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from agent_service.server import listen
from support.agent import MakeClient, Service, StartService
from support.eventually import eventually
from testbed.ports import free_port


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(service.url.rsplit(":", 1)[1])), timeout=30)


def ask(service: Service, request: bytes) -> tuple[bytes, bytes]:
    """Send a request; return the head and body of what arrives until the service closes the connection."""
    with closing(connect(service)) as sock:
        sock.sendall(request)
        answer = b""
        while part := sock.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        ["a", "a"],
        ["a", "b"],
        ["a b"],
        ["user@a"],
        ["a/b"],
        ["a, b"],
        ["[::1"],
        ["a:x"],
        ["a:1:2"],
        ["a\\b"],
        ["<a>"],
        ["\x80"],
    ],
)
def test_a_request_needs_one_valid_host(service: Service, hosts: list[str]) -> None:
    lines = ["GET /health/live HTTP/1.1", *(f"Host: {host}" for host in hosts)]
    head, body = ask(service, ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"Host" in body
    assert json.loads(body)["detail"]


@pytest.mark.parametrize("host", ["a", "a.example:8000", "127.0.0.1", "[::1]:8000", "", "under_score", "a:"])
def test_a_valid_host_is_accepted(service: Service, host: str) -> None:
    head, _ = ask(service, f"GET /health/live HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert head.startswith(b"HTTP/1.1 200 ")


def test_an_http_1_0_client_may_omit_the_host_but_not_repeat_it(service: Service) -> None:
    assert ask(service, b"GET /health/live HTTP/1.0\r\n\r\n")[0].startswith(b"HTTP/1.1 200 ")
    two = b"GET /health/live HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"
    assert ask(service, two)[0].startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("connection", ["", "Connection: keep-alive\r\n", "Connection: close\r\n"])
@pytest.mark.parametrize("path", ["/chat/stream", "/chat", "/nothing"])
def test_http_1_0_answers_are_never_chunked(service: Service, path: str, connection: str) -> None:
    body = b'{"message": "one two three"}'
    request = f"POST {path} HTTP/1.0\r\n{connection}Expect: 100-continue\r\nContent-Type: application/json\r\n"
    head, answer = ask(service, f"{request}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert b"transfer-encoding" not in head.lower()
    assert b"100 Continue" not in head
    if path == "/chat/stream":
        assert answer.startswith(b"data: ")
        assert answer.endswith(b"}\n\n")
        assert b"content-length" not in head.lower()
    else:
        assert json.loads(answer)


@pytest.mark.parametrize(
    "path", ["/", "/health", "/health/live", "/health/ready", "/metrics", "/page/chat.js", "/docs"]
)
def test_head_is_answered_like_get_without_the_body(service: Service, path: str) -> None:
    eventually(lambda: service.get("/health").status_code == 200, "all components were checked")
    head, body = ask(service, f"HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b""
    assert b"content-length: " in head.lower()
    assert b"content-length: 0" not in head.lower()


def test_head_is_not_in_the_openapi_document(service: Service) -> None:
    assert not [path for path, methods in service.get("/openapi.json").json()["paths"].items() if "head" in methods]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/chat/"),
        ("POST", "/chat/stream/"),
        ("POST", "/tasks/"),
        ("GET", "/tasks/"),
        ("GET", "/health/"),
        ("GET", "/health/live/"),
        ("GET", "/metrics/"),
        ("GET", "/docs/"),
        ("GET", "//chat"),
        ("GET", "/page"),
    ],
)
async def test_an_extra_slash_is_404_without_a_redirect(make_client: MakeClient, method: str, path: str) -> None:
    client = await make_client()
    headers = {"Host": "agent.example.com", "X-Forwarded-Proto": "https"}
    answer = await client.request(method, f"http://agent.example.com{path}", headers=headers, json={"message": "x"})
    assert answer.status_code == 404
    assert answer.json()["detail"]
    assert "location" not in answer.headers


def test_a_chunked_body_with_an_upgrade_is_refused_and_not_parsed_as_a_request(service: Service) -> None:
    inner = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    head = "POST /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer, body = ask(service, head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"alive" not in body


def test_an_idle_connection_stays_open_for_the_configured_time(start_service: StartService) -> None:
    service = start_service(MODEL_PROVIDER="echo", KEEP_ALIVE_SECONDS="1")
    for sent in (b"", b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"):
        with closing(connect(service)) as sock:
            sock.sendall(sent)
            started = time.monotonic()
            while sock.recv(65536):
                pass
            assert time.monotonic() - started > 0.9


ADDRESSES = ["127.0.0.1", "::1"] if Path("/proc/net/if_inet6").exists() else ["127.0.0.1"]


@pytest.mark.parametrize("host", ["", "::"], ids=["by default", "::"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_service_listens_on_both_address_families(start_service: StartService, host: str, workers: str) -> None:
    metrics = free_port()
    service = start_service(
        host=host,
        MODEL_PROVIDER="echo",
        API_WORKERS=workers,
        METRICS_PORT=str(metrics),
        RATE_LIMIT_REQUESTS="0",
        TRUSTED_PROXIES="",
    )
    port = int(service.url.rsplit(":", 1)[1])
    for address in ADDRESSES:
        name = f"[{address}]" if ":" in address else address
        assert httpx.get(f"http://{name}:{port}/health/live").status_code == 200
        assert httpx.get(f"http://{name}:{metrics}/metrics").status_code == 200
        assert httpx.head(f"http://{name}:{metrics}/metrics").status_code == 200


def test_an_ipv4_address_is_logged_as_such_where_the_service_listens_on_both_families(
    start_service: StartService,
) -> None:
    service = start_service(host="::", MODEL_PROVIDER="echo")
    httpx.get(f"{service.url}/", headers={"X-Forwarded-For": "203.0.113.9"})
    eventually(lambda: "X-Forwarded-For was ignored" in service.log(), "the proxy is logged")
    assert '"peer":"127.0.0.1"' in service.log().replace(" ", "")


def test_the_service_listens_only_on_the_configured_address(start_service: StartService) -> None:
    service = start_service(host="0.0.0.0", MODEL_PROVIDER="echo")  # noqa: S104
    assert service.get("/health/live").status_code == 200
    port = int(service.url.rsplit(":", 1)[1])
    with pytest.raises(OSError), socket.create_connection(("::1", port), timeout=5):  # noqa: PT011
        pass


@pytest.mark.parametrize("error", [97, 99], ids=["not built in", "switched off"])
def test_the_service_listens_on_ipv4_where_ipv6_is_off(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    class WithoutIPv6(socket.socket):
        def bind(self, address: object) -> None:
            if self.family == socket.AF_INET6:
                raise OSError(error, "no IPv6")
            super().bind(address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "socket", WithoutIPv6)
    with listen.bind("::", 0, setting="--port") as sock:
        assert sock.family == socket.AF_INET
        with socket.create_connection(("127.0.0.1", sock.getsockname()[1]), timeout=5):
            pass
