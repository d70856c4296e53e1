"""The answer of a gateway in place of the model API is only logged: callers receive only our own sentences."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from support.agent import KEY, StartService
from support.eventually import eventually

PRIVATE = ("acme-prod-eu", "10.1.2.3", "sk-litellm-9f3c", "finance@acme.example", "hunter2", "litellm")
WORDS = (
    "litellm.BadRequestError: deployment acme-prod-eu at http://bob:hunter2@10.1.2.3:4000, "
    "team key sk-litellm-9f3c..., user finance@acme.example has no budget left\x1b[2J"
)
BODIES = {
    "json": json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": WORDS}}),
    "openai": json.dumps({"error": {"message": WORDS, "code": 400, "param": None}}),
    "detail": json.dumps({"detail": WORDS}),
    "html": f"<html><title>{WORDS}</title></html>",
}


class Gateway(ThreadingHTTPServer):
    """Answers each request with the same status and body."""

    daemon_threads = True
    status, body, kind = 400, BODIES["json"], "application/json"


class _Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = self.server.body.encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", self.server.kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name that http.server has
        """Discard the message."""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    server = Gateway(("127.0.0.1", 0), _Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_no_answer_repeats_the_text_of_a_gateway(start_service: StartService, gateway: Gateway) -> None:
    service = start_service(
        ANTHROPIC_API_KEY=KEY,
        ANTHROPIC_BASE_URL=f"http://127.0.0.1:{gateway.server_port}",
        MODEL_MAX_RETRIES="0",
        RATE_LIMIT_REQUESTS="0",
        API_RUNS_TASKS="true",
        TASK_MAX_ATTEMPTS="1",
    )
    answers = []
    for status in (400, 401, 402, 403, 404, 409, 413, 418, 422, 429, 500, 502, 503, 529):
        for name, body in BODIES.items():
            gateway.status, gateway.body, gateway.kind = status, body, "text/html" if name == "html" else "text/json"
            for path in ("/chat", "/chat/stream"):
                answer = service.post(path, message="hello")
                assert answer.status_code >= 400
                answers.append(answer.text)
    gateway.status, gateway.kind = 200, "text/event-stream"
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": WORDS}}
    gateway.body = f"event: error\ndata: {json.dumps(error)}\n\n"
    answers += [service.post(path, message="hello").text for path in ("/chat", "/chat/stream")]
    gateway.status, gateway.body, gateway.kind = 400, BODIES["json"], "application/json"
    task = f"/tasks/{service.post('/tasks', message='hello').json()['task_id']}"
    eventually(lambda: service.get(task).json()["status"] == "failed", "the task fails")
    answers.append(service.get(task).text)
    for text in answers:
        assert not any(word in text for word in PRIVATE), text
    log = service.log()
    assert "acme-prod-eu" in log, "the owner has to find out why"
    assert "finance@acme.example" in log
    assert "hunter2" not in log
    assert "-9f3c" not in log  # with a character that no random id has
    assert "\x1b" not in log


def test_health_has_a_machine_readable_kind_and_a_sentence_of_our_own(
    start_service: StartService, gateway: Gateway
) -> None:
    gateway.status, gateway.body, gateway.kind = 400, BODIES["json"], "application/json"
    service = start_service(ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=f"http://127.0.0.1:{gateway.server_port}")
    eventually(lambda: service.get("/health").json()["components"]["model_api"]["status"] == "down", "it is down")
    answer = service.get("/health")
    assert not any(word in answer.text for word in PRIVATE)
    assert answer.json()["components"]["model_api"]["kind"] == "refused"
    assert answer.json()["components"]["redis"]["kind"] is None
    [line] = [json.loads(line) for line in service.log().splitlines() if "Component was down" in line]
    assert "acme-prod-eu" in line["upstream"]
    assert line["kind"] == "refused"
