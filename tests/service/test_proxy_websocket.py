"""RUNTIME_PROTOCOL=http: WebSockets through the agent, with a client library of other people."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from support.agent import Service, StartService
from support.eventually import eventually
from support.http_runtime import CLIENT_KEY, MEBIBYTE, PROXY, HttpRuntime
from testbed.ports import free_port

WITH_KEY = {"X-API-Key": CLIENT_KEY}


@pytest.fixture
def runtime(http_runtime: HttpRuntime) -> HttpRuntime:
    return http_runtime


@pytest.fixture
def service(shared_proxy: Service) -> Service:
    return shared_proxy


@contextmanager
def websocket(
    service: Service, path: str = "/ws/echo", headers: dict[str, str] | None = None, **options: Any
) -> Iterator[ClientConnection]:
    url = service.url.replace("http://", "ws://") + path
    options = {"compression": None, "max_size": None, "open_timeout": 30, **options}
    with connect(url, additional_headers=WITH_KEY if headers is None else headers, **options) as opened:
        yield opened


def refusal(service: Service, path: str = "/ws/echo", headers: dict[str, str] | None = None) -> InvalidStatus:
    with pytest.raises(InvalidStatus) as caught, websocket(service, path, headers):
        pass
    return caught.value


def closing_of(opened: ClientConnection) -> tuple[int | None, str]:
    """Read until the other side closes, and return its code and reason."""
    try:
        while True:
            opened.recv(timeout=30)
    except ConnectionClosed as closed:
        return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (None, "")


def test_text_and_bytes_go_both_ways(service: Service, runtime: HttpRuntime) -> None:
    with websocket(service) as opened:
        for message in ("hällo", b"\x00\xff", "", b"", "x" * 100_000):
            opened.send(message)
            assert opened.recv(timeout=30) == message


def test_a_fragmented_message_arrives_whole(service: Service, runtime: HttpRuntime) -> None:
    with websocket(service) as opened:
        opened.send(iter(["one ", "two ", "three"]))
        assert opened.recv(timeout=30) == "one two three"


def test_the_subprotocol_is_the_runtimes_choice(service: Service, runtime: HttpRuntime) -> None:
    with websocket(service, subprotocols=["chat.v1", "chat.v2"]) as opened:
        assert opened.subprotocol == "chat.v2"
    assert runtime.header("Sec-WebSocket-Protocol") == ["chat.v1,chat.v2"]
    with websocket(service, subprotocols=["chat.v9"]) as opened:
        assert opened.subprotocol is None


def test_headers_of_the_handshake_go_both_ways_without_the_key(service: Service, runtime: HttpRuntime) -> None:
    headers = {**WITH_KEY, "Authorization": f"Bearer {CLIENT_KEY}", "Cookie": "a=1", "X-Request-ID": "mine"}
    with websocket(service, "/ws/echo?a=%2F", headers) as opened:
        assert opened.response is not None
        assert opened.response.headers["Set-Cookie"] == "ws=1"
        assert opened.response.headers["X-Request-ID"] == "mine"
        assert len(opened.response.headers.get_all("Date")) == 1
    assert runtime.seen[-1]["path"] == "/ws/echo?a=%2F"
    assert CLIENT_KEY not in str(runtime.seen)
    assert runtime.header("Cookie") == ["a=1"]
    assert runtime.header("X-Forwarded-Proto") == ["http"]
    assert len(runtime.header("Sec-WebSocket-Key")) == 1


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "wrong"}])
@pytest.mark.parametrize("path", ["/ws/echo", "/", "/page/x", "//docs"])
def test_without_a_valid_key_there_is_no_upgrade(
    service: Service, runtime: HttpRuntime, path: str, headers: dict[str, str]
) -> None:
    answer = refusal(service, path, headers).response
    assert answer.status_code == 401
    assert "key" in json.loads(answer.body)["detail"]
    assert "X-Request-ID" in answer.headers
    assert runtime.seen == []


@pytest.mark.parametrize(("path", "status"), [("/health/live", 200), ("/tasks", 404), ("/chat", 404), ("/a/../b", 400)])
def test_the_agents_own_paths_do_not_upgrade(service: Service, runtime: HttpRuntime, path: str, status: int) -> None:
    assert refusal(service, path).response.status_code == status
    assert runtime.seen == []


@pytest.mark.parametrize(("path", "status"), [("/ws/refused", 403), ("/status/404", 404), ("/x", 502)])
def test_a_refusal_of_the_runtime_is_passed_on_without_its_words(
    service: Service, runtime: HttpRuntime, path: str, status: int
) -> None:
    answer = refusal(service, path).response
    assert answer.status_code == status
    assert "secret" not in str(answer.body)
    assert "runtime" in json.loads(answer.body)["detail"]


def test_a_redirect_of_the_runtime_is_not_followed(service: Service, runtime: HttpRuntime) -> None:
    assert refusal(service, "/ws/redirected").response.status_code == 502
    assert len(runtime.seen) == 1


def test_a_runtime_that_is_away_is_503(start_service: StartService) -> None:
    service = start_service(**PROXY, RUNTIME_URL=f"http://127.0.0.1:{free_port()}", REQUEST_TIMEOUT_SECONDS="1")
    assert refusal(service).response.status_code == 503


@pytest.mark.parametrize(("code", "reason"), [(1000, "bye"), (1001, ""), (3000, "own"), (4321, "own ü")])
def test_close_codes_of_the_runtime_reach_the_client(
    service: Service, runtime: HttpRuntime, code: int, reason: str
) -> None:
    with websocket(service) as opened:
        opened.send(f"close {code} {reason}")
        assert closing_of(opened) == (code, reason)


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4321])
def test_close_codes_of_the_client_reach_the_runtime(service: Service, runtime: HttpRuntime, code: int) -> None:
    with websocket(service) as opened:
        opened.send("before")
        opened.close(code, "done")
    eventually(lambda: runtime.closed == [(code, "")], "the runtime sees it")


def test_a_runtime_that_aborts_is_a_bad_gateway(service: Service, runtime: HttpRuntime) -> None:
    with websocket(service, "/ws/aborted") as opened:
        assert closing_of(opened)[0] == 1014


def test_a_client_that_is_gone_closes_the_runtimes_side(service: Service, runtime: HttpRuntime) -> None:
    with websocket(service) as opened:
        opened.send("hello")
        assert opened.recv(timeout=30) == "hello"
        opened.socket.shutdown(socket.SHUT_RDWR)
    eventually(lambda: runtime.closed == [(1001, "")], "the runtime sees that it went away")


def test_pings_are_answered_while_the_runtime_is_busy(service: Service, runtime: HttpRuntime) -> None:
    with websocket(service, "/ws/slow") as opened:
        assert opened.ping().wait(30)
        runtime.open_gate()


def test_large_messages_are_bounded(service: Service, runtime: HttpRuntime) -> None:
    with websocket(service) as opened:
        fits = 15 * MEBIBYTE
        opened.send(fits)
        assert len(opened.recv(timeout=60)) == len(fits)
        opened.send("large")
        assert closing_of(opened)[0] == 1009
    runtime.reset()
    with websocket(service) as opened:
        try:
            opened.send(17 * MEBIBYTE)
        except ConnectionClosed:
            pass  # the server closes before it has read all
        else:
            assert closing_of(opened)[0] in {1009, None}
    eventually(lambda: runtime.closed == [(1009, "")], "the runtime's side is closed too")


def test_a_client_that_does_not_read_slows_the_runtime_down(service: Service, runtime: HttpRuntime) -> None:
    with websocket(service, "/ws/flood", max_queue=1) as opened:
        previous = -1

        def has_stopped() -> bool:
            nonlocal previous
            before, previous = previous, runtime.written
            return previous > 0 and previous == before

        eventually(has_stopped, "the runtime waits")
        assert runtime.written < 50 * 2**20
        opened.socket.shutdown(socket.SHUT_RDWR)
    eventually(lambda: runtime.left == 1, "the runtime's side is closed")


def test_a_runtime_that_does_not_read_slows_the_client_down(service: Service, runtime: HttpRuntime) -> None:
    with websocket(service, "/ws/slow") as opened:
        sent = 0

        def flood() -> None:
            nonlocal sent
            for _ in range(60):
                opened.send(MEBIBYTE)
                sent += 1

        thread = threading.Thread(target=flood)
        thread.start()
        previous = -1

        def has_stopped() -> bool:
            nonlocal previous
            before, previous = previous, sent
            return previous > 0 and previous == before

        eventually(has_stopped, "the client waits")
        assert sent < 60
        runtime.open_gate()
        thread.join()
    eventually(lambda: runtime.received == 60 * len(MEBIBYTE), "all has arrived")


def test_limits_and_metrics_apply(start_service: StartService, runtime: HttpRuntime) -> None:
    service = start_service(**{**PROXY, "RATE_LIMIT_REQUESTS": "2"}, RUNTIME_URL=runtime.url, MAX_IN_FLIGHT="1")
    with websocket(service, headers={}) as opened:
        assert service.metric("agent_requests_in_flight") == 1
        busy = refusal(service, headers={}).response
        assert busy.status_code == 503
        opened.send("still open")
        assert opened.recv(timeout=30) == "still open"
    eventually(lambda: service.metric("agent_requests_in_flight") == 0, "the place is free again")
    with websocket(service, headers={}) as opened:
        assert opened.response is not None
        assert opened.response.headers["X-RateLimit-Remaining"] == "0"
    assert refusal(service, headers={}).response.status_code == 429
    lines = service.get("/metrics").text.splitlines()
    assert [line for line in lines if 'status="101"' in line and line.startswith("agent_http_requests_total{")]


def test_a_page_of_another_site_cannot_open_one_where_no_key_is_needed(
    start_service: StartService, runtime: HttpRuntime
) -> None:
    service = start_service(**PROXY, RUNTIME_URL=runtime.url, CORS_ORIGINS="https://console.example")
    assert refusal(service, headers={"Origin": "https://elsewhere.example"}).response.status_code == 403
    assert refusal(service, headers={"Origin": "null"}).response.status_code == 403
    for origin in (service.url, "https://console.example"):
        with websocket(service, headers={"Origin": origin}) as opened:
            opened.send("hello")
            assert opened.recv(timeout=30) == "hello"


def test_another_host_name_cannot_open_one(start_service: StartService, runtime: HttpRuntime) -> None:
    service = start_service(**PROXY, RUNTIME_URL=runtime.url, ALLOWED_HOSTS="agent.example")
    assert refusal(service, headers={}).response.status_code == 421


def test_when_draining_is_over_both_sides_get_1001(start_service: StartService, runtime: HttpRuntime) -> None:
    service = start_service(**PROXY, RUNTIME_URL=runtime.url)
    with websocket(service, headers={}) as opened:
        opened.send("hello")
        assert opened.recv(timeout=30) == "hello"
        service.terminate()
        eventually(lambda: service.get("/x").status_code == 503, "it drains")
        assert refusal(service, headers={}).response.status_code == 503
        opened.send("still open")
        assert opened.recv(timeout=30) == "still open"
        service.terminate()
        assert closing_of(opened)[0] == 1001
    assert service.wait() == 0
    eventually(lambda: runtime.closed == [(1001, "")], "the runtime's side too")


def handshake(service: Service, *lines: str, method: str = "GET", after: bytes = b"") -> bytes:
    """Send a handshake with further header lines, and return the head of the answer."""
    key = base64.b64encode(b"k" * 16).decode()
    head = [f"{method} /ws/echo HTTP/1.1", "Host: agent", f"X-API-Key: {CLIENT_KEY}", "Connection: Upgrade"]
    replaced = {line.partition(":")[0] for line in lines}
    usual = {"Upgrade": "websocket", "Sec-WebSocket-Key": key, "Sec-WebSocket-Version": "13"}
    head += [f"{name}: {value}" for name, value in usual.items() if name not in replaced]
    with closing(socket.create_connection(("127.0.0.1", int(service.url.rsplit(":", 1)[1])), timeout=30)) as sock:
        sock.sendall("\r\n".join([*head, *lines, "", ""]).encode() + after)
        answer = b""
        while b"\r\n\r\n" not in answer and (part := sock.recv(65536)):
            answer += part
    return answer.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    "lines",
    [
        ["Sec-WebSocket-Version: 8"],
        ["Sec-WebSocket-Key: short"],
        ["Sec-WebSocket-Key: a", "Sec-WebSocket-Key: b"],
        ["Upgrade: h2c"],
        ["Upgrade: websocket, h2c"],
    ],
)
def test_anything_but_a_valid_handshake_is_a_request_without_upgrade(
    service: Service, runtime: HttpRuntime, lines: list[str]
) -> None:
    assert b" 101 " not in handshake(service, *lines)
    assert "upgrade" not in runtime.header_names()


def test_a_handshake_has_no_body(service: Service, runtime: HttpRuntime) -> None:
    assert b" 101 " not in handshake(service, "Content-Length: 5", after=b"hello")
    assert handshake(service, "Transfer-Encoding: chunked", after=b"0\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert b" 101 " not in handshake(service, method="POST")


def test_a_handshake_with_a_very_long_header_is_refused(service: Service, runtime: HttpRuntime) -> None:
    assert handshake(service, f"X-Long: {'x' * 10_000}").startswith(b"HTTP/1.1 431 ")
    assert handshake(service).startswith(b"HTTP/1.1 101 ")


def test_messages_and_paths_are_in_no_log(start_service: StartService, runtime: HttpRuntime) -> None:
    service = start_service(**PROXY, RUNTIME_URL=runtime.url, LOG_LEVEL="DEBUG")
    with websocket(service, "/ws/echo?token=private-query", headers={}) as opened:
        opened.send("private message")
        assert opened.recv(timeout=30) == "private message"
    eventually(lambda: "/{runtime path}" in service.log(), "it is logged, with its route")
    assert "private" not in service.log()


def test_with_another_protocol_there_are_no_websockets(start_service: StartService, runtime: HttpRuntime) -> None:
    service = start_service(**{**PROXY, "RUNTIME_PROTOCOL": "invocations"}, RUNTIME_URL=runtime.url)
    assert refusal(service, "/ws/echo", {}).response.status_code == 404
    assert refusal(service, "/health/live", {}).response.status_code == 200


def test_several_processes_open_websockets(start_service: StartService, runtime: HttpRuntime) -> None:
    service = start_service(**PROXY, RUNTIME_URL=runtime.url, API_WORKERS="2")
    with websocket(service, headers={}) as opened:
        opened.send("hello")
        assert opened.recv(timeout=30) == "hello"
