"""A runtime that is an A2A agent, on the server of the official SDK: both versions, both bindings."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from a2a.server.request_handlers.response_helpers import agent_card_to_dict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from support.a2a_agent import HEALTH, WELL_KNOWN, RunningAgent, card, running_agent, running_app
from support.agent import Service, StartService
from support.eventually import eventually

MakeAgent = Callable[..., tuple[Service, RunningAgent]]

KINDS = [
    *({"binding": binding, "version": version} for binding in ("JSONRPC", "HTTP+JSON") for version in ("1.0", "0.3")),
]

WORKING = {"statusUpdate": {"taskId": "t", "status": {"state": "TASK_STATE_WORKING"}}}


@pytest.fixture
def make(start_service: StartService) -> Iterator[MakeAgent]:
    """Start an agent with this card, and a service whose runtime it is."""
    with ExitStack() as stack:

        def made(
            settings: dict[str, str] | None = None, where: dict[str, str] | None = None, **given: Any
        ) -> tuple[Service, RunningAgent]:
            running = stack.enter_context(running_agent(card(**given), **(where or {})))
            known = {"RUNTIME_URL": running.url, "RUNTIME_PROTOCOL": "a2a", "STREAM_HEARTBEAT_SECONDS": "0.2"}
            return start_service(**known, **(settings or {})), running

        yield made


def streamed(service: Service, **body: object) -> list[dict[str, Any]]:
    with httpx.stream("POST", service.url + "/chat/stream", json=body, timeout=30) as answer:
        assert answer.status_code == 200, answer.read()
        lines = [line for line in answer.iter_lines() if line.startswith("data:")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def text(received: list[dict[str, Any]]) -> str:
    return "".join(event["content"] for event in received if event["type"] == "text")


def asked(service: Service, message: str, **more: object) -> str:
    answer = service.post("/chat", message=message, **more)
    assert answer.status_code == 200, answer.text
    response: str = answer.json()["response"]
    return response


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind['binding']}-{kind['version']}")
def test_an_agent_answers_in_each_version_and_binding(make: MakeAgent, kind: dict[str, str], streaming: bool) -> None:
    service, running = make(**kind, streaming=streaming)

    # Artifacts in chunks, one of which repeats them all; a message without a task; the message of a completed task.
    assert text(streamed(service, message="artifacts one two three")) == "one two three"
    assert asked(service, "repeat one two three") == "one two three"
    assert asked(service, "message hello") == "hello"
    assert asked(service, "do it") == "do it"
    # A conversation is a context, in which the agent itself remembers.
    first = service.post("/chat", message="earlier one").json()
    assert asked(service, "earlier two", conversation_id=first["conversation_id"]) == "earlier one | earlier two"
    assert asked(service, "earlier three") == "earlier three"
    # The task that asked is continued, and only by the next message of its conversation.
    first = service.post("/chat", message="ask Which city?").json()
    assert first["response"] == "Which city?"
    assert asked(service, "Berlin it is", conversation_id=first["conversation_id"]) == "Berlin it is"
    asking, answering = running.agent.messages[-2:]
    assert asking["taskId"] == answering["taskId"]
    assert asked(service, "and now", conversation_id=first["conversation_id"]) == "and now"
    assert running.agent.messages[-1]["taskId"] != answering["taskId"]
    # Its failures are errors in our words.
    for message, status in [("fail it", 502), ("reject it", 502), ("auth it", 502), ("raise it", 502)]:
        answer = service.post("/chat", message=message)
        assert (answer.status_code, "runtime" in answer.json()["detail"]) == (status, True)
        assert "hunter2" not in answer.text


def test_a_stream_arrives_in_pieces_and_ends_with_an_event(make: MakeAgent) -> None:
    service, _ = make()
    received = streamed(service, message="artifacts one two three")
    assert [event["type"] for event in received][-1] == "done"
    failed = streamed(service, message="partly one two")
    assert (text(failed), failed[-1]["type"]) == ("one two", "error")
    assert "hunter2" not in str(failed)


def test_the_agent_receives_the_system_prompt_and_the_ids_of_the_turn(make: MakeAgent) -> None:
    service, running = make({"SYSTEM_PROMPT": "Be brief."})
    answer = httpx.post(service.url + "/chat", json={"message": "do it"}, headers={"X-Request-ID": "abc"}, timeout=30)
    assert answer.status_code == 200
    message, headers = running.agent.messages[-1], running.agent.headers[-1]
    assert message["metadata"] == {"system": "Be brief."}
    assert message["contextId"] == answer.json()["conversation_id"]
    assert headers["x-request-id"] == "abc"
    assert headers["a2a-version"] == "1.0"
    assert headers["baggage"].startswith("portside.turn=")
    assert {"traceparent", "x-portside-deadline"} < headers.keys()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind['binding']}-{kind['version']}")
def test_a_client_that_leaves_cancels_the_task(make: MakeAgent, kind: dict[str, str]) -> None:
    service, running = make(**kind)
    with httpx.stream("POST", service.url + "/chat/stream", json={"message": "endless"}, timeout=30) as answer:
        assert "First." in next(line for line in answer.iter_lines() if line.startswith("data:"))
        assert running.agent.canceled == []
    eventually(lambda: running.agent.canceled, "the task is canceled")
    assert running.agent.canceled == [running.agent.messages[-1]["taskId"]]


def test_a_turn_that_exceeds_its_time_cancels_the_task(make: MakeAgent) -> None:
    service, running = make({"REQUEST_TIMEOUT_SECONDS": "3"})
    assert service.post("/chat", message="endless").status_code == 504
    eventually(lambda: running.agent.canceled, "the task is canceled")


def test_the_card_is_read_once_and_again_after_an_error(make: MakeAgent) -> None:
    # The health check reads it, too, unless there is a path for that.
    service, running = make({"RUNTIME_HEALTH_PATH": HEALTH})
    asked(service, "do it")
    reads = running.agent.card_reads
    asked(service, "do it")
    assert running.agent.card_reads == reads
    service.post("/chat", message="fail it")
    asked(service, "do it")
    assert running.agent.card_reads == reads + 1


@pytest.mark.parametrize(
    ("where", "settings"),
    [
        ({"card_path": "/.well-known/agent.json"}, {}),
        ({"path": "/other"}, {"RUNTIME_PATH": "/other"}),
        (
            {"path": "/apps/words", "card_path": "/apps/words/.well-known/agent-card.json"},
            {"RUNTIME_PATH": "/apps/words"},
        ),
    ],
)
def test_an_agent_can_be_elsewhere(make: MakeAgent, where: dict[str, str], settings: dict[str, str]) -> None:
    service, _ = make(settings, where)
    assert asked(service, "do it") == "do it"


def runtime_health(service: Service, status: str) -> dict[str, Any]:
    """Wait until the check of the runtime has this status, and return it."""

    def found() -> dict[str, Any] | None:
        check: dict[str, Any] = service.get("/health").json()["components"]["runtime"]
        return check if check["status"] == status else None

    return eventually(found, f"the runtime is {status}")


def test_an_agent_is_healthy_if_its_card_can_be_used(make: MakeAgent) -> None:
    service, _ = make()
    detail = runtime_health(service, "up")["detail"]
    assert detail == "The agent's runtime answers: A2A 1.0 over JSONRPC, with streaming."


@pytest.mark.parametrize(
    ("published", "words"),
    [(None, "no such endpoint (404)"), ({"name": "old"}, "needed is A2A 1.0 or 0.3"), ("not a card", "agent card")],
)
def test_a_runtime_that_speaks_another_protocol_is_named(
    start_service: StartService, published: object, words: str
) -> None:
    routes = [] if published is None else [Route(WELL_KNOWN, lambda _: JSONResponse(published))]
    with running_app(Starlette(routes=routes)) as url:
        service = start_service(RUNTIME_URL=url, RUNTIME_PROTOCOL="a2a")
        assert words in runtime_health(service, "down")["detail"]
        answer = service.post("/chat", message="hello")
        assert answer.status_code == 502
        assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"", "broke off its answer"),
        (b"data: \n\n", "broke off its answer"),
        (b"data: {nonsense\n\n", "not JSON"),
        (b'data: {"jsonrpc": "2.0"}\n\n', "is not a reply of A2A"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "not JSON"),
        (b"data: " + b"x" * 2**21, "exceeds 1 MiB"),
        (b'data: {"error": {"code": -32601, "message": "The password is hunter2."}}\n\n', "does not support the call"),
        (b'data: {"error": {"code": 429, "message": "The password is hunter2."}}\n\n', "busy"),
        (b"data: " + json.dumps({"result": WORKING}).encode() + b"\n\n", "broke off its answer"),
    ],
)
def test_an_answer_in_another_form_is_an_error_in_our_words(
    start_service: StartService, reply: bytes, words: str
) -> None:
    """Also a stream that ends within a task of which the agent then knows nothing."""

    async def answered(request: Request) -> Response:
        if (await request.json())["method"] == "GetTask":
            return JSONResponse({"error": {"code": -32001, "message": "The password is hunter2."}})
        return Response(reply, media_type="text/event-stream")

    published = agent_card_to_dict(card(path="/"))
    routes = [Route(WELL_KNOWN, lambda _: JSONResponse(published)), Route("/", answered, methods=["POST"])]
    with running_app(Starlette(routes=routes)) as url:
        service = start_service(RUNTIME_URL=url, RUNTIME_PROTOCOL="a2a")
        answer = service.post("/chat", message="hello")
    assert answer.status_code in {502, 503}
    assert words in answer.json()["detail"]
    assert "hunter2" not in answer.text


def test_a_task_that_the_agent_has_forgotten_is_replaced(make: MakeAgent) -> None:
    service, running = make()
    conversation = service.post("/chat", message="ask Which city?").json()["conversation_id"]
    running.forget()
    assert asked(service, "Berlin it is", conversation_id=conversation) == "Berlin it is"
    assert len(running.agent.messages) == 2


@pytest.mark.parametrize("streaming", [True, False])
def test_a_task_that_goes_on_after_the_reply_is_polled(start_service: StartService, streaming: bool) -> None:
    """An agent may answer at once, or end a stream, with a task that is not complete."""
    states = [("WORKING", "one"), ("WORKING", "one two"), ("COMPLETED", "one two three")]
    polls: list[str] = []

    def task() -> dict[str, Any]:
        state, words = states.pop(0)
        artifacts = [{"artifactId": "a", "parts": [{"text": words}]}]
        return {"id": "t", "status": {"state": f"TASK_STATE_{state}"}, "artifacts": artifacts}

    async def answered(request: Request) -> Response:
        asked = await request.json()
        if asked["method"] == "GetTask":
            polls.append(asked["params"]["id"])
            return JSONResponse({"result": task()})
        reply = json.dumps({"result": {"task": task()}})
        if asked["method"] == "SendStreamingMessage":
            return Response(f"data: {reply}\n\n", media_type="text/event-stream")
        return Response(reply, media_type="application/json")

    published = agent_card_to_dict(card(path="/", streaming=streaming))
    routes = [Route(WELL_KNOWN, lambda _: JSONResponse(published)), Route("/", answered, methods=["POST"])]
    with running_app(Starlette(routes=routes)) as url:
        service = start_service(RUNTIME_URL=url, RUNTIME_PROTOCOL="a2a")
        received = streamed(service, message="hello")
    assert [event.get("content") for event in received] == ["one", " two", " three", None]
    assert received[-1]["type"] == "done"
    assert polls == ["t", "t"]
