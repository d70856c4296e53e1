"""Requests in flight: their limit, their duration, and correct counts whatever the clients do."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from stand_in import StandIn, asking
from support.agent import KEY, MakeClient, Service, StartService
from support.eventually import eventually

pytestmark = pytest.mark.timing


def start(start_service: StartService, stand_in: StandIn, **settings: str) -> Service:
    return start_service(ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url, RATE_LIMIT_REQUESTS="0", **settings)


def in_flight(service: Service) -> float:
    return service.metric("agent_requests_in_flight")


@contextmanager
def connection(service: Service, sent: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(service.url.rsplit(":", 1)[1])), timeout=20) as sock:
        sock.sendall(sent)
        yield sock


def post(path: str, message: str, *, body_bytes: int | None = None) -> bytes:
    """Return the bytes of a request, with only the first `body_bytes` of its body."""
    body = json.dumps({"message": message}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body[:body_bytes]


def everything(sock: socket.socket) -> bytes:
    """Return all bytes received until the peer closes."""
    received = b""
    while part := sock.recv(65536):
        received += part
    return received


def test_requests_over_the_limit_are_shed_at_once_while_probes_are_answered(
    start_service: StartService, stand_in: StandIn
) -> None:
    service = start(start_service, stand_in, MAX_IN_FLIGHT="2")
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connection(service, post("/chat/stream", asking(slow=20))))
        eventually(lambda: in_flight(service) == 2, "two are in flight")
        shed = service.post("/chat", message="one too many")
        assert shed.status_code == 503
        assert shed.headers["Retry-After"] == "1"
        assert shed.headers["Connection"] == "close"
        assert "in flight" in shed.json()["detail"]
        assert service.get("/tasks").status_code == 503
        assert service.get("/").status_code == 200, "it does not count as work"
        assert [service.get(path).status_code for path in ("/health/live", "/health/ready", "/metrics")] == [200] * 3
        assert service.metric('agent_requests_shed_total{reason="overload"}') == 2
        assert in_flight(service) == 2
    eventually(lambda: in_flight(service) == 0, "both are gone")
    assert service.post("/chat", message="now there is room").status_code == 200
    assert "one too many" not in [seen["message"] for seen in stand_in.requests()]


async def test_the_processes_of_a_pod_share_its_limit(make_client: MakeClient) -> None:
    client = await make_client(max_in_flight=3, api_workers=2, rate_limit_requests=0)
    answers = await asyncio.gather(*[client.post("/chat", json={"message": asking(stall=1)}) for _ in range(5)])
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(post("/chat", "hello", body_bytes=0), id="before the body"),
        pytest.param(post("/chat", "hello", body_bytes=9), id="in the body"),
        pytest.param(post("/chat", asking(stall=20)), id="before the answer"),
        pytest.param(post("/chat/stream", asking(stall=20)), id="before the first token"),
        pytest.param(post("/chat/stream", asking(slow=0.2, words=500)), id="in the stream"),
    ],
)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_disconnected_client_is_no_longer_counted(service: Service, sent: bytes, reset: bool) -> None:
    with connection(service, sent) as sock:
        eventually(lambda: in_flight(service) == 1, "the request is in flight")
        if reset:
            # With SO_LINGER of 0 seconds, close() sends RST, as when a process is killed.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    eventually(lambda: in_flight(service) == 0, "it is no longer counted")
    assert "Traceback" not in service.log()


def test_a_body_that_does_not_arrive_within_the_request_timeout_is_408(
    start_service: StartService, stand_in: StandIn
) -> None:
    service = start(start_service, stand_in, REQUEST_TIMEOUT_SECONDS="1")
    with connection(service, post("/chat", "hello", body_bytes=5)) as sock:
        answer = everything(sock)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'{"detail":"The request body did not arrive within 1 seconds."}' in answer
    assert b"connection: close" in answer.lower()
    assert in_flight(service) == 0
    assert stand_in.requests() == []


def test_a_body_that_trickles_past_the_request_timeout_is_408(start_service: StartService, stand_in: StandIn) -> None:
    service = start(start_service, stand_in, REQUEST_TIMEOUT_SECONDS="1")
    body = post("/chat", "a long message " * 500)
    with connection(service, body[:200]) as sock:
        sock.settimeout(0.1)
        answer = b""
        for byte in body[200:400]:
            sock.sendall(bytes([byte]))
            try:
                answer = sock.recv(65536)
            except TimeoutError:
                continue
            break
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_slow_body_does_not_delay_draining(start_service: StartService, stand_in: StandIn) -> None:
    service = start(start_service, stand_in, REQUEST_TIMEOUT_SECONDS="5")
    with connection(service, post("/chat", "hello", body_bytes=5)) as sock:
        eventually(lambda: in_flight(service) == 1, "the request is in flight")
        service.terminate()
        assert everything(sock).startswith(b"HTTP/1.1 408 ")
        assert service.wait(30) == 0
    assert '"requests_cut":0' in service.log()


def test_a_stream_may_outlast_the_timeout_of_its_request_body(start_service: StartService, stand_in: StandIn) -> None:
    """Waiting for the client to disconnect is also a receive, and has no timeout of its own."""
    times = {"REQUEST_TIMEOUT_SECONDS": "3", "STREAM_TIMEOUT_SECONDS": "6", "STREAM_HEARTBEAT_SECONDS": "0.1"}
    service = start(start_service, stand_in, **times)
    answer = service.post("/chat/stream", message=asking(slow=0.2, words=50))
    assert answer.status_code == 200
    assert "did not finish within 6 seconds" in answer.text.splitlines()[-2]


@pytest.mark.parametrize("has_length", [True, False], ids=["by its length", "in chunks"])
async def test_a_body_over_the_limit_is_refused_and_its_connection_closed(
    make_client: MakeClient, has_length: bool
) -> None:
    client = await make_client(max_body_bytes=2000)
    assert (await client.post("/chat", json={"message": "x" * 1500})).status_code == 200
    body = json.dumps({"message": "x" * 3000}).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for begin in range(0, len(body), 1000):
            yield body[begin : begin + 1000]

    content = body if has_length else chunks()
    answer = await client.post("/chat", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert "2000 bytes" in answer.json()["detail"]
    assert answer.headers["Connection"] == "close"


def test_draining_sheds_new_work_and_counts_it(start_service: StartService, stand_in: StandIn) -> None:
    service = start(start_service, stand_in)
    with connection(service, post("/chat/stream", asking(slow=20))):
        eventually(lambda: in_flight(service) == 1, "a stream is in flight")
        service.terminate()
        eventually(lambda: service.get("/health/ready").status_code == 503, "it drains")
        refused = service.post("/chat", message="late")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert service.metric('agent_requests_shed_total{reason="draining"}') == 1
    assert service.wait(30) == 0
