"""An agent whose turns a runtime answers, over the protocols `invocations` and `openai`."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any

import httpx
import pytest

from support.agent import Service, running_service
from support.eventually import eventually
from support.raw_client import connect
from support.redis_server import RedisServer
from support.runtime import (
    STREAM,
    Asked,
    Runtime,
    completion,
    event,
    json_answer,
    respond,
    running_runtime,
    stream,
)

SYSTEM = "Be brief."
KEY = "key-of-a-client-0001"


def hello(_: Asked) -> bytes:
    return json_answer({"response": "Hello"})


@pytest.fixture(scope="module")
def runtime_process() -> Iterator[Runtime]:
    with running_runtime(hello) as running:
        yield running


@pytest.fixture
def runtime(runtime_process: Runtime) -> Runtime:
    runtime_process.answer = hello
    runtime_process.asked.clear()
    runtime_process.sent.clear()
    return runtime_process


@pytest.fixture(scope="module")
def agent_process(
    runtime_process: Runtime, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    settings = {
        "RUNTIME_URL": runtime_process.url,
        "REDIS_URL": redis_process.url,
        "RATE_LIMIT_REQUESTS": "0",
        "SYSTEM_PROMPT": SYSTEM,
        "API_RUNS_TASKS": "true",
        "LOG_LEVEL": "DEBUG",
        "MAX_IN_FLIGHT_PER_CLIENT": "1000",
    }
    with running_service(tmp_path_factory.mktemp("agent"), **settings) as running:
        yield running


@pytest.fixture
def agent(agent_process: Service, runtime: Runtime) -> Service:
    """Return an agent without a key of a model API, in front of the runtime."""
    del runtime
    return agent_process


@pytest.fixture(scope="module")
def openai_runtime_process() -> Iterator[Runtime]:
    with running_runtime(lambda _: completion("Hel", "lo"), health_path="/health") as running:
        yield running


@pytest.fixture
def openai_runtime(openai_runtime_process: Runtime) -> Runtime:
    openai_runtime_process.answer = lambda _: completion("Hel", "lo")
    openai_runtime_process.asked.clear()
    return openai_runtime_process


@pytest.fixture(scope="module")
def openai_agent(
    openai_runtime_process: Runtime, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    settings = {
        "RUNTIME_URL": openai_runtime_process.url,
        "RUNTIME_PROTOCOL": "openai",
        "REDIS_URL": redis_process.url,
        "RATE_LIMIT_REQUESTS": "0",
        "SYSTEM_PROMPT": SYSTEM,
        "DEFAULT_MODEL": "a-model",
    }
    with running_service(tmp_path_factory.mktemp("agent"), **settings) as running:
        yield running


def events(text: str) -> list[dict[str, Any]]:
    """Return the events of a streamed answer."""
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def text_of(answer: httpx.Response) -> str:
    """Return the text of a streamed answer that is complete."""
    found = events(answer.text)
    assert found[-1]["type"] == "done", answer.text
    return "".join(each["content"] for each in found if each["type"] == "text")


def error_of(answer: httpx.Response) -> str:
    """Return the error of an answer, as its status or as its last event."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        last = events(answer.text)[-1]
        assert last["type"] == "error", answer.text
        return str(last["message"])
    assert answer.status_code >= 400, answer.text
    return str(answer.json()["detail"])


# What the runtime receives


def test_the_runtime_receives_the_message_its_context_and_its_deadline(agent: Service, runtime: Runtime) -> None:
    before = time.time()
    headers = {"X-Request-ID": "request-1", "Authorization": f"Bearer {KEY}", "Cookie": "a=b", "X-Custom": "c"}
    answer = httpx.post(f"{agent.url}/chat", json={"message": "Hi"}, headers=headers).json()
    assert answer["response"] == "Hello"
    (asked,) = runtime.asked
    deadline = asked.headers["x-portside-deadline"]
    assert (asked.method, asked.path) == ("POST", "/invocations")
    assert asked.body == {
        "prompt": "Hi",
        "messages": [{"role": "user", "content": "Hi"}],
        "session_id": answer["conversation_id"],
        "system": SYSTEM,
        "metadata": {
            "client": "anyone",
            "conversation_id": answer["conversation_id"],
            "request_id": "request-1",
            "deadline": deadline,
        },
    }
    assert before + 59 < datetime.fromisoformat(deadline).timestamp() < time.time() + 61
    assert asked.headers["x-request-id"] == "request-1"
    assert asked.headers["x-amzn-bedrock-agentcore-runtime-session-id"] == answer["conversation_id"]
    assert asked.headers["baggage"].startswith("portside.turn=")
    assert len(asked.headers["traceparent"].split("-")) == 4
    assert asked.headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie", "x-custom"} & asked.headers.keys()
    assert KEY not in str(asked.headers) + asked.content.decode()


def test_a_conversation_keeps_its_history(agent: Service, runtime: Runtime) -> None:
    first = agent.post("/chat", message="One").json()
    agent.post("/chat", message="Two", conversation_id=first["conversation_id"])
    assert runtime.asked[1].body["messages"] == [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Two"},
    ]
    sessions = {each.headers["x-amzn-bedrock-agentcore-runtime-session-id"] for each in runtime.asked}
    assert sessions == {first["conversation_id"]}


def test_a_task_is_answered_by_the_runtime(agent: Service, runtime: Runtime) -> None:
    runtime.answer = lambda _: stream("Hel", "lo")
    accepted = agent.post("/tasks", message="Hi").json()
    task = eventually(
        lambda: (found := agent.get(f"/tasks/{accepted['task_id']}").json())["status"] == "completed" and found,
        "the task is completed",
    )
    assert task["result"]["response"] == "Hello"
    (asked,) = runtime.asked
    assert len(asked.headers["x-amzn-bedrock-agentcore-runtime-session-id"]) >= 33
    assert asked.headers["x-request-id"] == accepted["task_id"]


# Forms of answers

MODEL_EVENT = {"event": {"contentBlockDelta": {"delta": {"text": "Hello"}, "contentBlockIndex": 0}}}
ANSWERS: dict[str, bytes | list[object]] = {
    "a response": json_answer({"response": "Hello"}),
    "a result": json_answer({"result": "Hello"}),
    "an output": json_answer({"output": "Hello"}),
    "a string": json_answer("Hello"),
    "a message of Strands": json_answer(
        {"result": {"role": "assistant", "content": [{"text": "Hel"}, {"text": "lo"}]}}
    ),
    "a message": json_answer({"output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}}}),
    "text": respond(b"Hello", "text/plain; charset=utf-8"),
    "JSON without a type": b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n" + b'"Hello"',
    "half a surrogate pair": respond(b'"Hello\\ud83d"'),
    "strings": ["Hel", "lo"],
    "objects": [{"type": "text", "content": "Hel"}, {"type": "text", "text": "lo"}, {"type": "done"}],
    "data": [{"type": "text", "data": "Hello"}],
    "tools": [
        {"type": "tool_use", "id": "1", "name": "clock", "input": {}},
        {"type": "tool_result", "id": "1", "content": "noon"},
        {"type": "text", "content": "Hello"},
        {"type": "done"},
    ],
    "unknown events": [{"init_event_loop": True}, 7, {"type": "thinking", "text": "Hm"}, ["x"], "Hello"],
    "events of Strands": [
        {"init_event_loop": True},
        {"event": {"messageStart": {"role": "assistant"}}},
        MODEL_EVENT,
        {"data": "Hello", "delta": {"text": "Hello"}},
        {"result": {"message": {"content": [{"text": "Hello"}]}}},
    ],
    "only a result": [{"result": {"role": "assistant", "content": [{"text": "Hello"}]}}],
    "text after the end": [{"type": "text", "content": "Hello"}, {"type": "done"}, {"type": "text", "content": "!"}],
}


@pytest.mark.parametrize("form", ANSWERS)
def test_every_form_of_answer_is_accepted(agent: Service, runtime: Runtime, form: str) -> None:
    given = ANSWERS[form]
    runtime.answer = lambda _: given if isinstance(given, bytes) else stream(*given)
    assert agent.post("/chat", message="Hi").json()["response"].startswith("Hello")
    streamed = text_of(agent.post("/chat/stream", message="Hi"))
    assert streamed == "Hello" or (form == "half a surrogate pair" and streamed.startswith("Hello"))


def test_tool_calls_of_the_runtime_are_passed_on(agent: Service, runtime: Runtime) -> None:
    given = [
        {"type": "text", "content": "Let me look. "},
        {"type": "tool_use", "id": "1", "name": "clock", "input": {"zone": "UTC"}},
        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "noon"}, {"type": "image"}]},
        {"type": "tool_use", "name": "without id", "input": {}},
        {"type": "tool_use", "id": "3", "name": "half a pair", "input": {"text": "\ud83d"}},
        {"type": "tool_use", "id": "2", "name": "news", "input": {}},
        {"type": "tool_result", "id": "2", "content": {"code": 5}, "is_error": True},
        {"type": "text", "content": "It is noon."},
        {"type": "done"},
    ]
    runtime.answer = lambda _: stream(*given)
    answer = agent.post("/chat", message="Hi").json()
    events = agent.post("/chat/stream", message="Hi").text
    shown = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: ")]

    assert answer["response"] == "Let me look. It is noon."
    assert answer["steps"] == [
        {"id": "1", "name": "clock", "input": {"zone": "UTC"}, "is_error": False, "content": "noon\n[image]"},
        {"id": "2", "name": "news", "input": {}, "is_error": True, "content": '{"code": 5}'},
    ]
    assert [event["type"] for event in shown] == ["text", *["tool_use", "tool_result"] * 2, "text", "done"]
    assert shown[1] == {"type": "tool_use", "id": "1", "name": "clock", "input": {"zone": "UTC"}}
    assert shown[4] == {"type": "tool_result", "id": "2", "is_error": True, "content": '{"code": 5}'}


# Faults of an answer

FAULTS: dict[str, tuple[bytes, str]] = {
    "not JSON": (respond(b"<oops"), "is not JSON"),
    "a page": (respond(b"<html>", "text/html"), "is neither JSON, text nor events"),
    "nothing": (respond(b""), "is empty"),
    "nothing, as text": (respond(b"", "text/plain"), "is empty"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "is empty"),
    "no text": (json_answer({"status": "success"}), "has no text"),
    "null": (json_answer(None), "has no text"),
    "deep nesting": (respond(b"[" * 100_000), "is not JSON"),
    "an error of the SDK": (json_answer({"error": "secret-words"}), "reported an error"),
    "a failure": (json_answer({"error": "secret-words"}, "500 Internal Server Error"), "failed (500)"),
    "another path": (json_answer({"detail": "secret-words"}, "404 Not Found"), "has no such endpoint (404)"),
    "a refusal": (json_answer({"detail": "secret-words"}, "422 Unprocessable Content"), "refused the request (422)"),
    "busy": (json_answer({"detail": "secret-words"}, "503 Service Unavailable"), "is busy (503)"),
    "a redirect": (
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        "redirects (302)",
    ),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.9\r\n", "does not speak HTTP"),
}


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_answer_is_an_error_that_names_the_runtime(
    agent: Service, runtime: Runtime, fault: str, path: str
) -> None:
    answer, words = FAULTS[fault]
    runtime.answer = lambda _: answer
    received = agent.post(path, message="Hi")
    error = error_of(received)
    assert words in error
    assert "runtime" in error
    assert received.status_code in {502, 503}
    assert "secret-words" not in received.text
    assert len(runtime.asked) == 1, "it is not repeated"


def test_the_text_of_an_error_is_in_the_log_alone(agent: Service, runtime: Runtime) -> None:
    runtime.answer = lambda _: json_answer({"error": "the database of orders is closed"}, "500 Internal Server Error")
    assert "database" not in agent.post("/chat", message="Hi").text
    eventually(lambda: "the database of orders is closed" in agent.log(), "the log has the error")


STREAM_FAULTS: dict[str, tuple[list[object], str]] = {
    "an error": (["Hel", {"type": "error", "message": "secret-words"}], "reported an error"),
    "an error of the SDK": (
        ["Hel", {"error": "secret-words", "error_type": "ValueError", "message": "An error occurred during streaming"}],
        "reported an error",
    ),
    "an event without end": (["Hel", "x" * 2**21], "exceeds 1 MiB"),
    "no known event": ([{"a": 1}, 7], "has no events of a known form"),
    "no event": ([], "has no events of a known form"),
}


@pytest.mark.parametrize("fault", STREAM_FAULTS)
def test_a_faulty_stream_ends_with_an_error(agent: Service, runtime: Runtime, fault: str) -> None:
    given, words = STREAM_FAULTS[fault]
    runtime.answer = lambda _: stream(*given)
    received = agent.post("/chat/stream", message="Hi")
    assert words in error_of(received)
    assert "secret-words" not in received.text
    if given and given[0] == "Hel":
        assert events(received.text)[0] == {"type": "text", "content": "Hel"}


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_an_answer_that_breaks_off_is_an_error(agent: Service, runtime: Runtime, path: str) -> None:
    runtime.answer = lambda _: iter([STREAM, event("Hel")])
    assert "broke off" in error_of(agent.post(path, message="Hi"))
    assert len(runtime.asked) == 1, "an answer that has started is not repeated"


def test_a_connection_that_closes_before_an_answer_is_tried_again(agent: Service, runtime: Runtime) -> None:
    runtime.answer = lambda _: hello(_) if len(runtime.asked) == 3 else iter(())
    assert agent.post("/chat", message="Hi").json()["response"] == "Hello"


def test_a_runtime_that_never_answers_but_closes_is_given_up(agent: Service, runtime: Runtime) -> None:
    runtime.answer = lambda _: iter(())
    received = agent.post("/chat", message="Hi")
    assert (received.status_code, received.json()["kind"]) == (503, "disconnected")
    assert len(runtime.asked) == 3


# A client that leaves, and one that reads slowly


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_a_client_that_disconnects_ends_the_runtimes_request(agent: Service, runtime: Runtime, path: str) -> None:
    started, ended = threading.Event(), threading.Event()

    def answer(asked: Asked) -> Iterator[bytes]:
        yield STREAM + event("Hel")
        started.set()
        if asked.disconnected():
            ended.set()

    runtime.answer = answer
    body = b'{"message":"Hi"}'
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with closing(connect(agent)) as client:
        client.sendall(head.encode() + body)
        assert started.wait(30)
    assert ended.wait(30), "the agent closes its connection to the runtime"


# The protocol `openai`


def test_chunks_of_a_completion_are_streamed(openai_agent: Service, openai_runtime: Runtime) -> None:
    first = openai_agent.post("/chat", message="One").json()
    assert first["response"] == "Hello"
    second = openai_agent.post("/chat/stream", message="Two", conversation_id=first["conversation_id"])
    assert text_of(second) == "Hello"
    asked = openai_runtime.asked[1]
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {
        "model": "a-model",
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Two"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_completion_that_is_not_streamed_is_accepted(openai_agent: Service, openai_runtime: Runtime) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "length"}
    openai_runtime.answer = lambda _: json_answer({"choices": [choice], "usage": {"total_tokens": 3}})
    answer = openai_agent.post("/chat", message="Hi").json()
    assert (answer["response"], answer["stop_reason"], answer["tokens_used"]) == ("Hello", "max_tokens", 0)


OPENAI_FAULTS: dict[str, tuple[Any, str]] = {
    "no end": (lambda: completion("Hel", finish=None, done=False), "broke off"),
    "no chunks": (stream, "has no chunks"),
    "an error": (lambda: stream({"error": {"message": "secret-words"}}), "reported an error"),
    "not JSON": (lambda: iter([STREAM, b"5\r\nx: y\n\r\n", b"a\r\ndata: oo\n\n\r\n", b"0\r\n\r\n"]), "not JSON"),
    "another object": (lambda: json_answer({"response": "Hello"}), "is not a chat completion"),
}


@pytest.mark.parametrize("fault", OPENAI_FAULTS)
def test_a_faulty_completion_is_an_error(openai_agent: Service, openai_runtime: Runtime, fault: str) -> None:
    given, words = OPENAI_FAULTS[fault]
    openai_runtime.answer = lambda _: given()
    received = openai_agent.post("/chat", message="Hi")
    assert words in error_of(received)
    assert "secret-words" not in received.text


def test_a_completion_without_done_but_with_a_reason_is_complete(
    openai_agent: Service, openai_runtime: Runtime
) -> None:
    openai_runtime.answer = lambda _: completion("Hello", done=False)
    assert openai_agent.post("/chat", message="Hi").json()["response"] == "Hello"
