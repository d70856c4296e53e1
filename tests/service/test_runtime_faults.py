"""A runtime that dies, hangs, floods, or comes late; what health, metrics and traces report of it."""

import concurrent.futures
import json
import socket
import threading
import time
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

import httpx
import pytest

from stand_in import StandIn
from support.agent import KEY, Service, StartService
from support.collector import Collector, attributes
from support.eventually import eventually
from support.runtime import (
    END,
    STREAM,
    Answers,
    Asked,
    Runtime,
    chunk,
    event,
    json_answer,
    respond,
    running_runtime,
    stream,
)

STREAMS = 50

# Out of a pod's 512 MiB. Each flood below is, in full, more than ten times as large.
MOST_GROWTH_BYTES = 96 * 2**20
MEBIBYTE = b"x" * 2**20


def hello(_: Asked) -> bytes:
    return json_answer({"response": "Hello"})


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with running_runtime(hello) as running:
        yield running


@pytest.fixture
def start_agent(start_service: StartService, runtime: Runtime) -> StartService:
    """Start an agent in front of the runtime; keyword arguments are its settings."""
    defaults = {"RUNTIME_URL": runtime.url, "RATE_LIMIT_REQUESTS": "0", "MAX_IN_FLIGHT_PER_CLIENT": "1000"}
    return lambda **settings: start_service(**{**defaults, **settings})


def last_event(answer: httpx.Response) -> dict[str, object]:
    """Return the last event of a streamed answer."""
    lines = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    found: dict[str, object] = json.loads(lines[-1].removeprefix("data: "))
    return found


# A restart


def test_a_runtime_killed_during_fifty_streams_ends_each_with_an_error_and_the_next_request_waits_for_the_restart(
    start_agent: StartService, runtime: Runtime
) -> None:
    agent = start_agent()

    def answer(asked: Asked) -> Iterator[bytes]:
        yield STREAM + event("Hel")
        asked.disconnected()

    runtime.answer = answer
    with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
        streams = [pool.submit(agent.post, "/chat/stream", message="Hi") for _ in range(STREAMS)]
        eventually(lambda: len(runtime.asked) == STREAMS, "all streams have started")
        runtime.kill()
        for each in streams:
            assert last_event(each.result()) == {
                "type": "error",
                "message": "The agent's runtime broke off its answer.",
            }
        runtime.answer = hello
        later = pool.submit(agent.post, "/chat", message="Hi")
        eventually(lambda: "waited for it" in agent.log(), "the next request waits")
        runtime.start()
        assert later.result().json()["response"] == "Hello"
    assert len(runtime.asked) == STREAMS + 1
    assert agent.metric('agent_runtime_requests_total{outcome="failed",protocol="invocations"}') == STREAMS
    assert agent.metric('agent_runtime_requests_total{outcome="ok",protocol="invocations"}') == 1
    assert agent.metric("agent_stream_errors_total") == STREAMS


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_a_request_gets_503_at_its_deadline_if_the_runtime_does_not_come_back(
    start_agent: StartService, runtime: Runtime, path: str
) -> None:
    agent = start_agent(REQUEST_TIMEOUT_SECONDS="2", STREAM_TIMEOUT_SECONDS="2")
    runtime.kill()
    answer = agent.post(path, message="Hi")
    assert (answer.status_code, answer.json()["kind"]) == (503, "connection_refused")
    assert "agent's runtime" in answer.json()["detail"]


def test_a_stream_that_waits_for_a_restart_has_heartbeats(start_agent: StartService, runtime: Runtime) -> None:
    """The silence of a runtime that is not there does not end the stream: it has received nothing."""
    agent = start_agent(REQUEST_TIMEOUT_SECONDS="1", STREAM_HEARTBEAT_SECONDS="0.2")
    runtime.kill()
    with httpx.stream("POST", f"{agent.url}/chat/stream", json={"message": "Hi"}, timeout=30) as answer:
        lines = answer.iter_lines()
        beats = [line for line in (next(lines) for _ in range(20)) if line.startswith(":")]
        assert len(beats) == 10
        runtime.start()
        assert any('"Hello"' in line for line in lines)


# Hanging, and out of time


def test_a_runtime_that_sends_nothing_is_named_when_the_time_is_over(
    start_agent: StartService, runtime: Runtime
) -> None:
    agent = start_agent(REQUEST_TIMEOUT_SECONDS="3", STREAM_TIMEOUT_SECONDS="3", TASK_TIMEOUT_SECONDS="3")
    ended = threading.Semaphore(0)

    def answer(asked: Asked) -> Iterator[bytes]:
        if asked.disconnected():
            ended.release()
        yield b""

    runtime.answer = answer
    received = agent.post("/chat", message="Hi")
    assert received.status_code == 504
    assert received.json()["detail"] == "The agent's runtime did not finish within 3 seconds."
    assert agent.post("/chat/stream", message="Hi").status_code == 504
    for _ in range(2):
        assert ended.acquire(timeout=30), "the runtime's request is ended"
    assert agent.metric('agent_runtime_requests_total{outcome="timed_out",protocol="invocations"}') == 2


def test_a_stream_that_falls_silent_ends_with_an_error(start_agent: StartService, runtime: Runtime) -> None:
    agent = start_agent(REQUEST_TIMEOUT_SECONDS="3")

    def answer(asked: Asked) -> Iterator[bytes]:
        yield STREAM + event("Hel")
        asked.disconnected()

    runtime.answer = answer
    message = "The agent's runtime sent nothing for 3 seconds."
    assert last_event(agent.post("/chat/stream", message="Hi")) == {"type": "error", "message": message}


def test_an_answer_after_the_deadline_is_not_waited_for(start_agent: StartService, runtime: Runtime) -> None:
    agent = start_agent(REQUEST_TIMEOUT_SECONDS="3")

    def answer(asked: Asked) -> Iterator[bytes]:
        asked.disconnected()
        yield hello(asked)

    runtime.answer = answer
    assert agent.post("/chat", message="Hi").status_code == 504
    runtime.answer = hello
    assert agent.post("/chat", message="Hi").json()["response"] == "Hello"


# Floods

LONG = b"Content-Length: 2000000000\r\n\r\n"
FLOODS = {
    "JSON": (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + LONG, MEBIBYTE),
    "text": (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + LONG, MEBIBYTE),
    "an event": (STREAM + chunk(b"data: "), chunk(MEBIBYTE)),
    "events": (STREAM, event("x" * 2**16)),
    "comments": (STREAM, chunk(b": ping\n" * 2**17)),
    "an error": (b"HTTP/1.1 500 Internal Server Error\r\n" + LONG, MEBIBYTE),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n" * 2**17),
}


def flood(head: bytes, piece: bytes) -> Answers:
    """Return an answer that does not end."""
    return lambda _: chain([head], repeat(piece))


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_a_flood_is_an_error_in_bounded_memory(start_agent: StartService, runtime: Runtime, path: str) -> None:
    agent = start_agent()
    assert agent.post(path, message="Hi").status_code == 200
    process = Path(f"/proc/{agent.process.pid}")
    for what, (head, piece) in FLOODS.items():
        before = largest(process, reset=True)
        runtime.sent.clear()
        runtime.answer = flood(head, piece)
        answer = agent.post(path, message="Hi")
        assert answer.status_code == 502 or last_event(answer)["type"] == "error", what
        assert largest(process) - before < MOST_GROWTH_BYTES, what
        eventually(lambda: bool(runtime.sent), f"the connection is closed: {what}")
    assert agent.get("/health/live").status_code == 200


def largest(process: Path, *, reset: bool = False) -> int:
    """Return the peak memory of a process, in bytes, since the last reset (proc(5), VmHWM)."""
    if reset:
        (process / "clear_refs").write_text("5")
    status = (process / "status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_a_client_that_reads_slowly_slows_the_runtime_down(start_agent: StartService, runtime: Runtime) -> None:
    agent = start_agent()
    piece, sent = event("x" * 2**14), 0

    def answer(asked: Asked) -> Iterator[bytes]:
        nonlocal sent
        yield STREAM
        for _ in range(1000):
            sent += len(piece)
            yield piece
        yield END

    runtime.answer = answer
    address = ("127.0.0.1", int(agent.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=60) as client:
        body = b'{"message":"Hi"}'
        head = "POST /chat/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        before = -1

        def stands_still() -> bool:
            nonlocal before
            same, before = sent == before, sent
            time.sleep(0.3)
            return same and sent > 0

        eventually(stands_still, "the runtime is held up")
        assert sent < 1000 * len(piece), "most of the answer is still unsent"
        # The bytes that are in flight already are read at once; what matters is that the rest follows.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        end = b""
        while b'"type":"done"' not in end:
            received = client.recv(2**20)
            assert received, f"the stream ended early: {end!r}"
            end = (end + received)[-200:]


# Health, metrics, traces


def health(agent: Service) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = agent.get("/health").json()["components"]
    return found


def test_health_reports_the_runtime_in_the_words_of_its_problem(start_agent: StartService, runtime: Runtime) -> None:
    agent = start_agent()

    def reports(status: str, words: str, kind: str | None = None) -> None:
        def check() -> bool:
            found = health(agent)["runtime"]
            return (found["status"], found["kind"]) == (status, kind) and words in str(found["detail"])

        eventually(check, f"{status}: {words}; it is {health(agent)['runtime']}")

    reports("up", "The agent's runtime answers.")
    assert "model_api" not in health(agent), "the agent has no key"
    runtime.health = lambda _: json_answer({"status": "HealthyBusy", "time_of_last_update": 1})
    reports("up", "busy")
    runtime.health = lambda _: json_answer({"detail": "no"}, "404 Not Found")
    reports("down", "no health endpoint at /ping: set RUNTIME_HEALTH_PATH", "no_health_path")
    runtime.health = lambda _: json_answer({}, "500 Internal Server Error")
    reports("down", "failed (500)", "failed")
    runtime.health = lambda _: respond(b"ok", "text/plain")
    reports("up", "The agent's runtime answers.")
    runtime.kill()
    reports("down", "nothing listens", "connection_refused")
    eventually(lambda: agent.metric('agent_dependency_up{component="runtime"}') == 0, "the metrics report it")
    assert agent.get("/health/ready").status_code == 200, "requests wait for the restart"


def test_with_a_key_the_model_api_is_checked_too_and_a_turn_charges_no_tokens(
    start_agent: StartService, stand_in: StandIn
) -> None:
    agent = start_agent(ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url)
    eventually(lambda: health(agent)["model_api"]["status"] == "up", "the model API is checked")
    assert agent.post("/chat", message="Hi").json()["tokens_used"] == 0
    assert agent.metric('agent_runtime_request_duration_seconds_count{protocol="invocations"}') == 1
    assert agent.metric("agent_tokens_total") == 0
    assert agent.metric("agent_model_requests_total") == 0


def test_a_turn_is_a_span_whose_trace_the_runtime_receives(
    start_agent: StartService, runtime: Runtime, collector: Collector
) -> None:
    agent = start_agent(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="100")
    agent.post("/chat", message="Hi")
    name = "invoke_agent invocations"
    eventually(lambda: any(span.name == name for span in collector.spans()), "the span of the turn arrives")
    span = next(span for span in collector.spans() if span.name == name)
    _, trace_id, parent, _ = runtime.asked[0].headers["traceparent"].split("-")
    assert (trace_id, parent) == (span.trace_id.hex(), span.span_id.hex())
    found = attributes(span.attributes)
    assert found["gen_ai.operation.name"] == "invoke_agent"
    assert found["portside.turn.outcome"] == "ok"


def test_an_agent_starts_before_its_runtime(start_service: StartService) -> None:
    with running_runtime(lambda _: stream("Hello")) as runtime:
        runtime.kill()
        agent = start_service(RUNTIME_URL=runtime.url)
        assert agent.get("/health/ready").status_code == 200
        runtime.start()
        assert agent.post("/chat", message="Hi").json()["response"] == "Hello"


@pytest.mark.parametrize("protocol", ["openai", "http"])
def test_an_agent_starts_with_every_protocol(start_agent: StartService, protocol: str) -> None:
    agent = start_agent(RUNTIME_PROTOCOL=protocol, RUNTIME_HEALTH_PATH="/ping")
    eventually(lambda: health(agent)["runtime"]["status"] == "up", "the runtime is checked")
