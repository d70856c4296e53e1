"""The process: its command line, its port and its shutdown."""

import http.client
import json
import os
import signal
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from agent_service import __version__
from stand_in import StandIn, asking
from support.agent import API_PROCESS, Service, StartService, run_agent_service
from support.eventually import eventually

pytestmark = pytest.mark.timing


def test_help_and_version_are_printed(tmp_path: Path) -> None:
    result = run_agent_service("--version", folder=tmp_path)
    assert (result.returncode, result.stdout.strip()) == (0, f"agent-service, version {__version__}")
    result = run_agent_service("serve", "--help", folder=tmp_path)
    assert result.returncode == 0
    for word in ("--host", "--port", "ANTHROPIC_API_KEY", "MODEL_PROVIDER", "Exit codes"):
        assert word in result.stdout


def test_a_port_in_use_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run_agent_service(
            "serve", "--host", "127.0.0.1", "--port", port, folder=tmp_path, MODEL_PROVIDER="echo"
        )
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert port in result.stderr
    assert "--port" in result.stderr


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host"])
def test_an_unusable_host_is_one_line_and_exit_code_1(tmp_path: Path, host: str) -> None:
    result = run_agent_service("serve", "--host", host, "--port", "0", folder=tmp_path, MODEL_PROVIDER="echo")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "API_HOST" in result.stderr


def test_the_start_message_has_the_url_and_the_docs(service: Service) -> None:
    (started,) = [json.loads(line) for line in service.log().splitlines() if "Agent API started" in line]
    assert started["url"] == service.url
    assert started["docs"] == f"{service.url}/docs"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_service_exits_with_code_0(start_service: StartService, end: signal.Signals) -> None:
    service = start_service(MODEL_PROVIDER="echo", LOG_FORMAT="text")
    assert "Agent API started" in service.log()
    assert service.get("/health/ready").status_code == 200
    service.process.send_signal(end)
    assert service.wait() == 0
    assert "Traceback" not in service.log()


class Reader(threading.Thread):
    """Reads one stream to its end in the background."""

    def __init__(self, url: str, message: str) -> None:
        super().__init__(daemon=True)
        self.request = (url, message)
        self.received = ""
        self.start()

    def run(self) -> None:
        url, message = self.request
        with httpx.stream("POST", f"{url}/chat/stream", json={"message": message}, timeout=60) as answer:
            for part in answer.iter_text():
                self.received += part


def test_draining_finishes_streams_refuses_new_work_and_exits_with_code_0(
    start_service: StartService, stand_in: StandIn
) -> None:
    service = start_service(ANTHROPIC_API_KEY="sk-1", ANTHROPIC_BASE_URL=stand_in.url)
    reader = Reader(service.url, asking("hello", hold="stream", after=1))
    eventually(lambda: '"text"' in reader.received, "the stream flows")
    service.terminate()
    eventually(lambda: service.get("/health/ready").status_code == 503, "readiness turns")
    assert service.get("/health/ready").json()["reason"] == "draining"
    assert service.get("/health/live").status_code == 200
    refused = service.post("/chat", message="late")
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "1"
    assert "shutting down" in refused.json()["detail"]
    assert "agent_requests_in_flight 1.0" in service.get("/metrics").text
    assert '"done"' not in reader.received
    stand_in.release("stream")
    reader.join(30)
    assert '"done"' in reader.received
    assert service.wait() == 0
    assert '"level":"error"' not in service.log()
    assert "Unclosed" not in service.log()
    assert [seen["message"] for seen in stand_in.requests()] == [asking("hello", hold="stream", after=1)]


@pytest.mark.parametrize("processes", [1, 2])
def test_requests_that_arrived_before_the_signal_are_answered(
    start_service: StartService, stand_in: StandIn, processes: int
) -> None:
    service = start_service(
        ANTHROPIC_API_KEY="sk-1", ANTHROPIC_BASE_URL=stand_in.url, API_WORKERS=str(processes), RATE_LIMIT_REQUESTS="0"
    )
    pids = [service.process.pid, *service.children(API_PROCESS)]
    with ExitStack() as stack:
        connections = [_connected(service, stack) for _ in range(4)]
        for connection in connections:
            connection.request("GET", "/health/live")
            assert connection.getresponse().read()
        # Simulate a pod that gets no CPU for longer than its preStop hook takes.
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        connections += [_connected(service, stack) for _ in range(4)]
        for connection in connections:
            connection.request("POST", "/chat", '{"message": "hello"}', {"Content-Type": "application/json"})
        service.terminate()
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert [connection.getresponse().status for connection in connections] == [200] * 8
    assert service.wait(30) == 0


def _connected(service: Service, stack: ExitStack) -> http.client.HTTPConnection:
    url = httpx.URL(service.url)
    connection = http.client.HTTPConnection(url.host, url.port, timeout=30)
    stack.callback(connection.close)
    connection.connect()
    return connection


@pytest.mark.parametrize("processes", [1, 2])
def test_draining_waits_for_a_stream_up_to_the_stream_timeout(
    start_service: StartService, stand_in: StandIn, processes: int
) -> None:
    service = start_service(
        ANTHROPIC_API_KEY="sk-1",
        ANTHROPIC_BASE_URL=stand_in.url,
        REQUEST_TIMEOUT_SECONDS="4",
        API_WORKERS=str(processes),
    )
    # Ten seconds of words: longer than the drain time that a request used to have, and never silent.
    reader = Reader(service.url, asking("hello", slow=0.25, words=30))
    eventually(lambda: '"text"' in reader.received, "the stream flows")
    service.terminate()
    reader.join(60)
    assert '"done"' in reader.received
    assert service.wait(30) == 0


def test_draining_ends_even_when_a_client_does_not_read(start_service: StartService, stand_in: StandIn) -> None:
    times = {"REQUEST_TIMEOUT_SECONDS": "5", "STREAM_TIMEOUT_SECONDS": "5", "WRITE_TIMEOUT_SECONDS": "60"}
    service = start_service(ANTHROPIC_API_KEY="sk-1", ANTHROPIC_BASE_URL=stand_in.url, MAX_TOKENS="200000", **times)
    # An answer has 5 s to start, on a busy machine too; a client that does not read uses all of them.
    body = json.dumps({"message": asking(bulk=24)}).encode()
    head = "POST /chat/stream HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    address = ("127.0.0.1", int(service.url.rsplit(":", 1)[1]))
    with socket.create_connection(address) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(head.encode() + body)
        eventually(lambda: service.metric("agent_requests_in_flight") == 1, "the stream is in flight")
        service.terminate()
        assert service.wait(60) == 0
    assert '"requests_cut":1' in service.log()


def test_a_second_signal_cuts_the_remaining_streams(start_service: StartService, stand_in: StandIn) -> None:
    service = start_service(ANTHROPIC_API_KEY="sk-1", ANTHROPIC_BASE_URL=stand_in.url, REQUEST_TIMEOUT_SECONDS="600")
    reader = Reader(service.url, asking("hello", slow=20, words=9))
    eventually(lambda: service.metric("agent_requests_in_flight") == 1, "the stream is in flight")
    service.terminate()
    eventually(lambda: service.get("/health/ready").status_code == 503, "readiness turns")
    service.terminate()
    assert service.wait(30) == 0
    reader.join(30)
    assert '"done"' not in reader.received
