"""Clients that misuse their connections, over raw sockets: memory, slots and descriptors stay bounded."""

import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from stand_in import StandIn, asking
from support.agent import KEY, Service, StartService
from support.eventually import eventually
from support.raw_client import connect, peak_mebibytes

pytestmark = pytest.mark.timing

CLIENT_KEY = "alpha-key-0123456789"
PROBE = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def ask(service: Service, request: bytes) -> bytes:
    """Send a request that closes its connection; return the answer, empty if none arrived."""
    with suppress(OSError), closing(connect(service)) as sock:
        sock.sendall(request)
        answer = b""
        while part := sock.recv(65536):
            answer += part
        return answer
    return b""


def chat(service: Service, key: str = CLIENT_KEY) -> int:
    body = b'{"message":"hello"}'
    head = f"POST /chat HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"
    answer = ask(service, f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return int(answer.split()[1]) if answer else 0


def post(path: str, message: str, *headers: str) -> bytes:
    body = json.dumps({"message": message}).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: a", "Content-Type: application/json", *headers]
    return ("\r\n".join(lines) + f"\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body


def feed(sock: socket.socket, data: bytes) -> None:
    """Send until the other side takes no more."""
    sock.settimeout(5)
    with suppress(OSError):
        sock.sendall(data)


def descriptors(service: Service) -> int:
    return len(os.listdir(f"/proc/{service.process.pid}/fd"))


def in_flight(service: Service) -> float:
    return service.metric("agent_requests_in_flight ")


PIPELINED: dict[str, bytes] = {
    "pages": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "without a host": b"GET / HTTP/1.1\r\n\r\n",
    "nothing": b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "chunked": b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bodies": b"POST /chat HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000,
    "of HTTP 1.0": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "upgrades": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "line ends": b"\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", PIPELINED.values(), ids=PIPELINED)
def test_pipelined_requests_do_not_fill_the_memory(start_service: StartService, request_bytes: bytes) -> None:
    service = start_service(MODEL_PROVIDER="echo", RATE_LIMIT_REQUESTS="0")
    before = peak_mebibytes(service)
    blob = request_bytes * (256_000 // len(request_bytes))
    with ExitStack() as stack:
        socks = [stack.enter_context(closing(connect(service, reads=False))) for _ in range(20)]
        threads = [threading.Thread(target=feed, args=(sock, blob), daemon=True) for sock in socks]
        for thread in threads:
            thread.start()
        assert ask(service, PROBE).startswith(b"HTTP/1.1 200 ")
        for thread in threads:
            thread.join()
        assert ask(service, PROBE).startswith(b"HTTP/1.1 200 ")
        # 5 MB were sent; version 0.2 took 570 MiB for the first of these.
        assert peak_mebibytes(service) < before + 60
    assert "Traceback" not in service.log()


BEHIND: dict[str, bytes] = {
    "nothing": b"",
    "a request": PROBE,
    "many requests": b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n" * 200,
    "half a head": b"GET /health/live HT",
    "a body": post("/chat", "x" * 9000),
    "a body of which most is to come": b"POST /chat HTTP/1.1\r\nHost: a\r\nContent-Length: 250000\r\n\r\n"
    + b"x" * 50_000,
    "more than can wait": post("/chat", "x" * 200_000),
    "no HTTP": b"\0" * 1000,
}


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
@pytest.mark.parametrize("together", [True, False], ids=["in one read", "later"])
@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
def test_a_disconnect_is_noticed_whatever_the_client_sent_after_its_request(
    service: Service, stand_in: StandIn, behind: bytes, path: str, *, together: bool
) -> None:
    with closing(connect(service)) as sock:
        request = post(path, asking(stall=25))
        sock.sendall(request + behind if together else request)
        eventually(lambda: in_flight(service) == 1, "the request is in flight")
        if not together:
            sock.sendall(behind)
            # Go on once the service has read it, not while it is still in the kernel's buffer.
            assert ask(service, PROBE).startswith(b"HTTP/1.1 200 ")
    eventually(lambda: in_flight(service) == 0, "the client is known to have left", 10)
    eventually(
        lambda: all(seen["state"] != "running" for seen in stand_in.requests()), "every call to the model has ended"
    )


@pytest.mark.parametrize("together", [True, False], ids=["in one read", "later"])
def test_a_request_pipelined_after_a_chunked_one_is_answered_or_can_be_sent_again(
    service: Service, *, together: bool
) -> None:
    body = json.dumps({"message": asking("first", stall=1)}).encode()
    first = b"POST /chat HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    first += b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    with closing(connect(service)) as sock:
        sock.sendall(first + PROBE if together else first)
        if not together:
            eventually(lambda: in_flight(service) == 1, "the request is in flight")
            sock.sendall(PROBE)
        answer = b""
        while part := sock.recv(65536):
            answer += part
    assert answer.count(b"conversation_id") == 1
    assert b"connection: close" in answer.lower()


def test_pipelined_requests_are_answered_in_order_however_they_are_split(service: Service) -> None:
    requests = [
        b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n",
        post("/chat", "first"),
        b"\r\n",
        b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        post("/chat/stream", "second", "Expect: 100-continue"),
        post("/chat", "third", "Connection: Upgrade", "Upgrade: h2c"),
        post("/nothing", "fourth", "Connection: Upgrade", "Upgrade: websocket"),
        post("/nothing", "x" * 5000),
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        PROBE,
    ]
    blob = b"".join(requests)
    for size in (1, 7, 100, 1000, len(blob)):
        with closing(connect(service)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for begin in range(0, len(blob), size):
                sock.sendall(blob[begin : begin + size])
            answer = b""
            while part := sock.recv(65536):
                answer += part
        statuses = [int(found) for found in re.findall(rb"HTTP/1\.1 (\d+) ", answer) if found != b"100"]
        assert statuses == [200, 200, 404, 200, 200, 404, 404, 200, 200], size


def not_reading(path: str, *headers: str) -> bytes:
    return ("\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *headers]) + "\r\n\r\n").encode()


# Each request is small, but its answers fill all buffers between the service and a client that does not read.
UNREAD: dict[str, bytes] = {
    "files of the page": not_reading("/page/chat.js"),
    "the page": not_reading("/", "Accept: text/html"),
    "nothing there": not_reading("/nothing", "X-Request-ID: " + "a" * 100),
    "no file there": not_reading("/page/nothing", "X-Request-ID: " + "a" * 100),
    "a wrong key": not_reading("/tasks", "X-API-Key: wrong-key-0123456789", "X-Request-ID: " + "a" * 100),
    "a right key, wrong input": post("/chat", "", f"X-API-Key: {CLIENT_KEY}", "X-Request-ID: " + "a" * 100),
}


@pytest.mark.parametrize("unread", UNREAD.values(), ids=UNREAD)
def test_unread_answers_take_no_slot_and_their_connections_are_closed(
    start_service: StartService, unread: bytes
) -> None:
    service = start_service(
        MODEL_PROVIDER="echo",
        API_KEYS=CLIENT_KEY,
        RATE_LIMIT_REQUESTS="0",
        MAX_IN_FLIGHT="4",
        CHAT_PAGE="true",
        WRITE_TIMEOUT_SECONDS="3",
    )
    before = descriptors(service)
    # As many as the service reads in one go, so that it answers them all.
    blob = unread * (60_000 // len(unread))
    with ExitStack() as stack:
        for _ in range(20):
            sock = stack.enter_context(closing(connect(service, reads=False)))
            feed(sock, blob)
        for _ in range(10):
            assert chat(service) == 200
        eventually(lambda: in_flight(service) == 0, "no slot is taken")
        # Connections whose answers fit in the kernel's buffers may stay.
        eventually(lambda: descriptors(service) < before + 20 + 5, "it takes no more than it has to", 20)
    eventually(lambda: descriptors(service) <= before + 5, "all are closed")


def test_an_unread_stream_frees_its_slot_while_its_client_stays_connected(
    start_service: StartService, stand_in: StandIn
) -> None:
    service = start_service(
        ANTHROPIC_API_KEY=KEY,
        ANTHROPIC_BASE_URL=stand_in.url,
        API_KEYS=CLIENT_KEY,
        MAX_IN_FLIGHT="4",
        WRITE_TIMEOUT_SECONDS="1",
        REQUEST_TIMEOUT_SECONDS="120",
    )
    with ExitStack() as stack:
        for _ in range(3):
            sock = stack.enter_context(closing(connect(service, reads=False)))
            sock.sendall(post("/chat/stream", asking(bulk=8), f"X-API-Key: {CLIENT_KEY}"))
        eventually(lambda: in_flight(service) == 3, "they are in flight")
        eventually(lambda: in_flight(service) == 0, "they are closed", 60)
        assert chat(service) == 200
    assert "Connections were closed" in service.log()


def test_one_client_cannot_take_all_slots_and_its_proxy_is_not_counted_as_a_client(
    start_service: StartService, stand_in: StandIn
) -> None:
    service = start_service(
        ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url, MAX_IN_FLIGHT="4", TRUSTED_PROXIES="127.0.0.1"
    )

    def of(address: str) -> bytes:
        return post("/chat", asking(stall=20), f"X-Forwarded-For: {address}", "Connection: close")

    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(closing(connect(service))).sendall(of("198.51.100.1"))
        eventually(lambda: in_flight(service) == 3, "three are in flight")
        refused = ask(service, of("198.51.100.1"))
        assert refused.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1" in refused.lower()
        assert service.metric('agent_rate_limited_total{reason="in_flight"}') == 1
        stack.enter_context(closing(connect(service))).sendall(of("198.51.100.2"))
        eventually(lambda: in_flight(service) == 4, "another client's is in flight")
        assert ask(service, of("198.51.100.3")).startswith(b"HTTP/1.1 503 ")
    eventually(lambda: in_flight(service) == 0, "they have left")


IDLE: dict[str, bytes] = {
    "silent": b"",
    "half a head": b"GET / HTTP/1.1\r\nHost: a\r\nX-",
    "kept alive": b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n",
    "refused": b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n",
    "no HTTP": b"\0\0\r\n\r\n",
}


def hold(service: Service, count: int, sent: bytes) -> Iterator[socket.socket]:
    """Yield connections that stay open after sending these bytes."""
    for _ in range(count):
        sock = connect(service)
        # The service may have closed the connection by then.
        with suppress(OSError):
            sock.sendall(sent)
        yield sock


@pytest.mark.parametrize(
    ("sent", "workers"),
    [*(pytest.param(sent, "1", id=name) for name, sent in IDLE.items()), pytest.param(b"GET", "2", id="two processes")],
)
def test_idle_connections_leave_descriptors_for_probes_and_do_not_flood_the_log(
    start_service: StartService, sent: bytes, workers: str
) -> None:
    service = start_service(
        descriptors="512 512", MODEL_PROVIDER="echo", API_WORKERS=workers, RATE_LIMIT_REQUESTS="0", LOG_LEVEL="WARNING"
    )
    lines = len(service.log().splitlines())
    with ExitStack() as stack:
        for number, sock in enumerate(hold(service, 600, sent)):
            stack.enter_context(closing(sock))
            if number % 100 == 99:
                assert ask(service, PROBE).startswith(b"HTTP/1.1 200 "), number
                assert chat(service) == 200
        assert descriptors(service) < 512
    assert len(service.log().splitlines()) - lines <= 2 * int(workers), service.log()[-2000:]


def test_a_busy_connection_is_not_closed_to_make_room(start_service: StartService, stand_in: StandIn) -> None:
    service = start_service(ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url, MAX_CONNECTIONS="64")
    with ExitStack() as stack:
        working = stack.enter_context(closing(connect(service)))
        working.sendall(post("/chat", asking(hold="work"), "Connection: close"))
        eventually(lambda: in_flight(service) == 1, "it is in flight")
        for sock in hold(service, 200, b""):
            stack.enter_context(closing(sock))
        stand_in.release("work")
        assert working.recv(65536).startswith(b"HTTP/1.1 200 ")
        eventually(lambda: descriptors(service) < 64 + 40, "the others made room")


def test_the_soft_limit_of_open_files_is_raised_to_the_hard_one(start_service: StartService) -> None:
    service = start_service(descriptors="256 2048", MODEL_PROVIDER="echo")
    limits = Path(f"/proc/{service.process.pid}/limits").read_text(encoding="ascii")
    assert re.search(r"^Max open files\s+2048\s+2048\s", limits, re.MULTILINE)
