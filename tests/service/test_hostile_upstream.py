"""A hostile upstream: its answers are endless, or explode when decoded. LARGEST_ANSWER_BYTES bounds them here."""

import gzip
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest

from support.agent import Service, running_service
from support.eventually import eventually
from support.gateway import HEAD, LARGEST_ANSWER_BYTES, START, Gateway, running_gateway, sse, text, whole
from support.redis_server import RedisServer

pytestmark = pytest.mark.timing

# Out of a pod's 512 MiB. Each attack below is, in full, more than twice as large.
MOST_GROWTH_BYTES = 96 * 2**20

ERROR = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
MEBIBYTE = b"x" * 2**20


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with running_gateway(lambda _: whole()) as running:
        yield running


@pytest.fixture(scope="module")
def service(
    gateway: Gateway, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    common = {"ANTHROPIC_API_KEY": "sk-1", "ANTHROPIC_BASE_URL": gateway.url, "REDIS_URL": redis_process.url}
    with running_service(
        tmp_path_factory.mktemp("service"), **common, MODEL_MAX_RETRIES="0", RATE_LIMIT_REQUESTS="0"
    ) as running:
        assert running.post("/chat", message="hello").status_code == 200
        yield running


def bomb(head: bytes, encoding: str) -> bytes:
    """Return an answer that is 1,000 times as large once decoded."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(LARGEST_ANSWER_BYTES // 2**20)) + packer.flush()
    lines = f"Content-Encoding: {encoding}\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    return head.removesuffix(b"\r\n") + lines + packed


def bombs_in_a_row(head: bytes) -> bytes:
    """Return an answer of many small packed members."""
    packed = gzip.compress(b"x" * 1000) * 20_000
    return (
        head.removesuffix(b"\r\n")
        + f"Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
        + packed
    )


def endless(head: bytes, piece: bytes) -> Callable[[], Iterable[bytes]]:
    return lambda: chain([head], repeat(piece))


LARGE_TEXT = sse(text("y" * 100_000))
ATTACKS: dict[str, Callable[[], Iterable[bytes] | bytes]] = {
    "an error without end": endless(ERROR, MEBIBYTE),
    "an error that explodes": lambda: bomb(ERROR, "gzip"),
    "an error that explodes, deflated": lambda: bomb(ERROR, "deflate"),
    "a line without end": endless(HEAD, MEBIBYTE),
    "data without end": endless(HEAD + sse(START) + b"data: ", MEBIBYTE),
    "lines of data without end": endless(HEAD, b"data: x\n" * 2**17),
    "text without end": endless(HEAD + sse(START), LARGE_TEXT),
    "comments without end": endless(HEAD, b": ping\n\n" * 2**17),
    "events that explode": lambda: bomb(HEAD, "gzip"),
    "events that explode, deflated": lambda: bomb(HEAD, "deflate"),
    "many packed members": lambda: bombs_in_a_row(HEAD),
    "a page without end": endless(HEAD.replace(b"event-stream", b"html"), MEBIBYTE),
    "headers without end": endless(HEAD.removesuffix(b"\r\n"), b"X-Y: z\r\n" * 2**17),
    "a redirect without end": endless(
        ERROR.replace(b"400 Bad Request\r\n", b"302 Found\r\nLocation: /x\r\n"), MEBIBYTE
    ),
}


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
@pytest.mark.parametrize("what", ATTACKS)
def test_an_endless_or_exploding_answer_is_an_error_in_bounded_memory(
    service: Service, gateway: Gateway, what: str, path: str
) -> None:
    gateway.answer = lambda _: ATTACKS[what]()
    process = Path(f"/proc/{service.process.pid}")
    eventually(lambda: _all_ended(gateway), "the connections of earlier questions are closed")
    ended = len(gateway.sent)
    before = largest(process, reset=True)
    answer = service.post(path, message="hello")
    assert answer.status_code == 502 or '"type":"error"' in answer.text, answer.text[:500]
    assert largest(process) - before < MOST_GROWTH_BYTES
    eventually(lambda: _all_ended(gateway), "the connection is closed")
    (sent,) = gateway.sent[ended:]
    assert sent <= LARGEST_ANSWER_BYTES // 4
    assert service.get("/health/live").status_code == 200
    gateway.answer = lambda _: whole()
    assert service.post(path, message="hello").status_code == 200


def _all_ended(gateway: Gateway) -> bool:
    return len(gateway.sent) == len(gateway.questions())


def test_an_error_is_reported_without_waiting_for_its_body(service: Service, gateway: Gateway) -> None:
    """The status is enough; the body would only be logged."""
    held = threading.Event()

    def answer(_: object) -> Iterator[bytes]:
        yield ERROR + b'{"type":"error"'
        held.wait(120)

    gateway.answer = answer
    try:
        assert "refused the request (400)" in service.post("/chat", message="hello").json()["detail"]
    finally:
        held.set()


def largest(process: Path, *, reset: bool = False) -> int:
    """Return the peak memory of a process, in bytes, since the last reset (proc(5), VmHWM)."""
    if reset:
        (process / "clear_refs").write_text("5")
    status = (process / "status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
