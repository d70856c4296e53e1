"""Hostile clients, over raw sockets: nothing hangs, leaks or answers 500, and other requests are still served."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx
import pytest

from stand_in import StandIn, asking
from support.agent import KEY, Service, running_service
from support.eventually import eventually
from support.redis_server import RedisServer

pytestmark = pytest.mark.timing

# How long the service under test waits for a head, a body or an answer.
TIMEOUT_SECONDS = 2
PRIVATE = "private-words-of-a-user"


@pytest.fixture(scope="module")
def target_process(
    stand_in_process: StandIn, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    with running_service(
        tmp_path_factory.mktemp("target"),
        ANTHROPIC_API_KEY=KEY,
        ANTHROPIC_BASE_URL=stand_in_process.url,
        REDIS_URL=redis_process.url,
        STATE_PREFIX="hostile",
        RATE_LIMIT_REQUESTS="0",
        REQUEST_TIMEOUT_SECONDS=str(TIMEOUT_SECONDS),
        STREAM_HEARTBEAT_SECONDS="0.2",
    ) as running:
        # What is created once, on first use, is not a leak.
        with httpx.Client(timeout=30) as client:
            for path in ("/chat", "/chat/stream"):
                client.post(running.url + path, json={"message": "hello"})
        yield running


def descriptors(service: Service) -> int:
    return len(os.listdir(f"/proc/{service.process.pid}/fd"))


@pytest.fixture
def target(target_process: Service, stand_in: StandIn) -> Iterator[Service]:
    """Yield the service; after each attack, check that it is as before and has logged nothing that it must not."""
    service = target_process
    before = descriptors(service)
    stand_in.behave()
    yield service
    eventually(lambda: service.metric("agent_requests_in_flight") == 0, "no request is in flight")
    # Few connections to the model API and to Redis are kept for the next request.
    eventually(lambda: descriptors(service) <= before + 12, f"descriptors return to {before}: {descriptors(service)}")
    assert service.post("/chat", message="hello").status_code == 200
    log = service.log()
    assert "Traceback" not in log
    assert "unexpectedly" not in log
    assert PRIVATE not in log
    assert '"level":"error"' not in log.replace(" ", "")


def connect(service: Service) -> socket.socket:
    url = httpx.URL(service.url)
    sock = socket.create_connection((url.host, url.port or 80), timeout=15)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def head(path: str = "/chat", *more: str, length: int | None = None) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: agent", "Content-Type: application/json", *more]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def whole(path: str, message: str) -> bytes:
    body = json.dumps({"message": message}).encode()
    return head(path, length=len(body)) + body


def received(sock: socket.socket, until: bytes | None = None) -> bytes:
    """Return what arrives until the service closes the connection, or until it contains `until`."""
    data = b""
    try:
        while until is None or until not in data:
            more = sock.recv(65536)
            if not more:
                break
            data += more
    except ConnectionResetError:
        pass
    return data


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
    assert b'{"detail":' in answer
    return int(answer.split()[1])


def test_a_body_of_a_byte_a_second_times_out(target: Service) -> None:
    with closing(connect(target)) as sock:
        started = time.monotonic()
        sock.sendall(head(length=1000) + b'{"message": "')
        sock.settimeout(0.2)
        answer = b""
        while not answer and time.monotonic() - started < 10:
            try:
                answer = sock.recv(65536)
            except TimeoutError:
                sock.sendall(b"x")
        sock.settimeout(15)
        assert status(answer + received(sock)) == 408


def test_a_trickling_head_times_out_and_other_requests_are_served_meanwhile(target: Service) -> None:
    with ExitStack() as stack:
        socks = [stack.enter_context(closing(connect(target))) for _ in range(50)]
        started = time.monotonic()
        for sock in socks:
            sock.sendall(b"POST /chat HTTP/1.1\r\nHost: agent\r\nX-")
        while time.monotonic() - started < TIMEOUT_SECONDS * 0.7:
            for sock in socks:
                sock.sendall(b"a")
            assert target.get("/health/live").status_code == 200
        assert {status(received(sock)) for sock in socks} == {408}


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /" + b"a" * 8192,
        b"GET / HTTP/1.1\r\nHost: agent\r\nX-Long: " + b"a" * 8192,
        b"GET / HTTP/1.1\r\nHost: agent\r\n",
    ],
    ids=["path", "one header", "many headers"],
)
def test_an_endless_head_is_refused_before_it_fills_the_memory(target: Service, endless: bytes) -> None:
    with closing(connect(target)) as sock:
        sent = 0
        more = b"a" * 8192 if not endless.endswith(b"\n") else b"X-Many: a\r\n" * 800
        try:
            sock.sendall(endless)
            while sent < 64 * 2**20:
                sock.sendall(more)
                sent += len(more)
        except OSError:
            pass
        assert sent < 8 * 2**20, "it is read on and on"


def test_endless_trailers_are_cut_off(target: Service) -> None:
    with closing(connect(target)) as sock:
        sock.sendall(head("/chat", "Transfer-Encoding: chunked") + b'2\r\n{"\r\n0\r\n')
        sent = 0
        try:
            while sent < 64 * 2**20:
                sock.sendall(b"X-Trailer: " + b"a" * 8192 + b"\r\n")
                sent += 8192
        except OSError:
            pass
        assert sent < 8 * 2**20


def test_a_body_with_a_huge_content_length_is_refused_unread(target: Service) -> None:
    with closing(connect(target)) as sock:
        sock.sendall(head(length=10**12))
        assert status(received(sock)) == 413


@pytest.mark.parametrize("chunk", [65536, 1024], ids=["large chunks", "small chunks"])
def test_a_huge_body_without_a_content_length_is_refused_while_it_arrives(target: Service, chunk: int) -> None:
    with closing(connect(target)) as sock:
        sock.sendall(head("/chat", "Transfer-Encoding: chunked"))
        piece = f"{chunk:x}\r\n".encode() + b"x" * chunk + b"\r\n"
        sent = 0
        answer = b""
        sock.settimeout(5)
        try:
            while sent < 64 * 2**20:
                sock.sendall(piece)
                sent += chunk
        except OSError:
            pass
        assert sent < 16 * 2**20
        with suppress(OSError):
            answer = received(sock)
        # A client that still sends when the connection closes may lose the answer with it (RFC 9112, 9.6).
        assert not answer or status(answer) == 413


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 100,
        b"HELLO\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /chat HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /chat HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /chat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /chat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"POST /chat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nBad Header: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_input_that_is_not_http_is_refused_or_cut_off(target: Service, garbage: bytes) -> None:
    with closing(connect(target)) as sock:
        sock.sendall(garbage)
        sock.shutdown(socket.SHUT_WR)
        answer = received(sock)
        assert not answer or status(answer) in {400, 408, 413, 422}


BAD_BODIES: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"{not json",
    "half": b'{"message": "' + PRIVATE.encode(),
    "not UTF-8": b'{"message": "\xff\xfe"}',
    "NUL byte": b'{"message": "a\0b"}',
    "NUL escape": b'{"message": "a\\u0000b"}',
    "too long": json.dumps({"message": "x" * 10_001}).encode(),
    "blank": b'{"message": " \\t\\n"}',
    "unknown field": json.dumps({"message": "hello", PRIVATE: PRIVATE}).encode(),
    "surrogate in a name": b'{"message": "hello", "\\ud800": 1}',
    "number": b'{"message": 1}',
    "infinite": b'{"message": Infinity}',
    "huge number": b'{"message": ' + b"9" * 100_000 + b"}",
    "list": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"message":' * 20_000 + b"1" + b"}" * 20_000,
    "wrong prompt": json.dumps({"message": "hello", "conversation_id": ["x"]}).encode(),
    "long id": json.dumps({"message": "hello", "conversation_id": "x" * 129}).encode(),
}


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_an_invalid_body_is_422_and_is_not_quoted(target: Service, stand_in: StandIn, path: str, body: bytes) -> None:
    asked = len(stand_in.requests())
    answer = httpx.post(target.url + path, content=body, headers={"Content-Type": "application/json"}, timeout=15)
    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert PRIVATE not in answer.text.replace(f'"loc":["body","{PRIVATE}"]', "")
    assert len(stand_in.requests()) == asked


@pytest.mark.parametrize("conversation", ["../../etc/passwd", "{portside}:x", "a\0b", "*", "x" * 128, ""])
def test_an_id_that_was_never_issued_starts_a_new_conversation(target: Service, conversation: str) -> None:
    body = json.dumps({"message": "hello", "conversation_id": conversation})
    answer = httpx.post(f"{target.url}/chat", content=body, headers={"Content-Type": "application/json"}, timeout=15)
    assert answer.status_code == 200
    assert answer.json()["conversation_id"] != conversation


def test_a_lone_surrogate_in_a_message_is_422(target: Service) -> None:
    for path in ("/chat", "/chat/stream"):
        answer = httpx.post(
            target.url + path, content=b'{"message": "a\\ud800b"}', headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 422


def leave(service: Service, sent: bytes, until: bytes | None, *, hard: bool) -> None:
    """Send, wait until `until` arrives, and disconnect: with a clean close, or with a reset if `hard`."""
    sock = connect(service)
    if hard:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.sendall(sent)
    if until is not None:
        received(sock, until)
    sock.close()


STAGES: dict[str, tuple[Callable[[str], bytes], bytes | None]] = {
    "in the head": (lambda path: head(path, length=5)[:-4], None),
    "before the body": (lambda path: head(path, length=50), None),
    "in the body": (lambda path: whole(path, PRIVATE)[:-10], None),
    "right after the body": (lambda path: whole(path, PRIVATE), None),
    "before the first word": (lambda path: whole(path, asking(PRIVATE, stall=10)), None),
    "after a heartbeat": (lambda path: whole(path, asking(PRIVATE, stall=10)), b": waiting"),
    "in mid-stream": (lambda path: whole(path, asking(PRIVATE, slow=0.1)), b'"text"'),
    "right before the end": (lambda path: whole(path, PRIVATE), b'"type":"done"'),
}


@pytest.mark.parametrize("hard", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("stage", STAGES)
def test_clients_that_disconnect_leave_nothing_behind(
    target: Service, stand_in: StandIn, stage: str, *, hard: bool
) -> None:
    make, until = STAGES[stage]
    paths = ["/chat/stream"] if until else ["/chat", "/chat/stream"]
    for _ in range(10):
        for path in paths:
            leave(target, make(path), until, hard=hard)
    eventually(lambda: target.metric("agent_requests_in_flight") == 0, "no request is in flight")
    eventually(
        lambda: all(seen["state"] != "running" for seen in stand_in.requests()), "every call to the model has ended"
    )


def test_a_half_closed_connection_gets_an_answer_or_is_closed(target: Service) -> None:
    with closing(connect(target)) as sock:
        sock.sendall(whole("/chat", "hello"))
        sock.shutdown(socket.SHUT_WR)
        answer = received(sock)
        assert not answer or b" 200 " in answer


def test_a_client_that_does_not_read_delays_no_other_client_and_is_dropped(target: Service) -> None:
    with closing(connect(target)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(whole("/chat/stream", asking(bulk=8)))
        started = time.monotonic()
        assert target.post("/chat", message="hello").status_code == 200
        assert target.get("/health/live").status_code == 200
        assert time.monotonic() - started < 25


def test_five_hundred_silent_connections_do_not_affect_other_clients(target: Service) -> None:
    before = descriptors(target)
    with ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(closing(connect(target)))
        eventually(lambda: descriptors(target) >= before + 500, "they are all taken")
        assert target.post("/chat", message="hello").status_code == 200
        assert target.get("/health/ready").status_code == 200
    eventually(lambda: descriptors(target) <= before + 12, "they are all gone")


def test_a_line_end_after_a_body_does_not_cut_off_the_answer(target: Service) -> None:
    with closing(connect(target)) as sock:
        sock.sendall(whole("/chat/stream", asking(stall=1)) + b"\r\n")
        assert b'"type":"done"' in received(sock, b'"type":"done"')


def test_pipelined_requests_are_all_answered_in_order(target: Service) -> None:
    with closing(connect(target)) as sock:
        sock.sendall(b"".join(whole("/chat", f"number-{number}") for number in range(20)))
        answer = b""
        while answer.count(b'"conversation_id"') < 20:
            more = sock.recv(65536)
            assert more, answer[-500:]
            answer += more
        places = [answer.index(f"number-{number}\\".encode()) for number in range(20)]
        assert places == sorted(places)


def resident_mebibytes(service: Service) -> float:
    return int(Path(f"/proc/{service.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_repeated_attacks_do_not_grow_the_memory(target: Service) -> None:
    def storm() -> None:
        for _ in range(40):
            leave(target, head(length=10**12), None, hard=True)
            leave(target, b"GET / HTTP/1.1\r\nX: " + b"a" * 60_000, None, hard=True)
            leave(target, whole("/chat/stream", asking(PRIVATE, words=200)), b'"text"', hard=True)
            leave(target, head("/chat", length=200_000) + b"x" * 150_000, None, hard=False)
        eventually(lambda: target.metric("agent_requests_in_flight") == 0, "no request is in flight")

    storm()
    settled = resident_mebibytes(target)
    for _ in range(4):
        storm()
    assert resident_mebibytes(target) < settled + 15
