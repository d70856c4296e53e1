"""Approvals of tool calls in conversations: two replicas of the real service, a real MCP server, and the stand-in."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from service.approvals import COFFEE, PLAIN, TEA, Replicas, approval, calling, calls, decide, slow, start_replica
from stand_in import StandIn
from support.agent import Service, StartService, running_service
from support.eventually import eventually
from support.mcp_servers import McpServer
from support.redis_server import RedisServer, running_redis

UNKNOWN = "01890000-0000-7000-8000-000000000000.1"


@pytest.fixture(scope="module")
def replica_processes(
    server_process: McpServer,
    stand_in_process: StandIn,
    redis_process: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("replicas")
    with ExitStack() as stack:

        def start(**settings: str) -> Service:
            return stack.enter_context(running_service(folder, **settings))

        def replica() -> httpx.Client:
            started = start_replica(server_process, start, stand_in_process, folder, REDIS_URL=redis_process.url)
            return stack.enter_context(started)

        yield Replicas(replica(), replica())


@pytest.fixture
def replicas(replica_processes: Replicas, server: McpServer, stand_in: StandIn, redis_server: RedisServer) -> Replicas:
    """Return two replicas, shared by many tests, with an empty Redis."""
    return replica_processes


def ask(client: httpx.Client, *steps: list[dict[str, Any]], conversation_id: str | None = None) -> dict[str, Any]:
    body = {"message": calling(*steps)} | ({"conversation_id": conversation_id} if conversation_id else {})
    answer = client.post("/chat", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def test_a_call_that_needs_an_approval_waits_for_it_and_then_runs(
    replicas: Replicas, server: McpServer, stand_in: StandIn
) -> None:
    asked = ask(replicas.one, [PLAIN, TEA])

    assert asked.get("status") == "input_required", asked
    (waits,) = asked["approvals"]
    assert (waits["tool"], waits["server"], waits["input"]) == ("slow", "shop", TEA["input"])
    assert waits["expires_at"]
    assert "stop_reason" not in asked
    assert calls(server) == ["add"]

    answer = decide(replicas.two, asked)
    assert calls(server) == ["add", "tea"]
    assert "status" not in answer
    assert "slept tea" in answer["response"]
    body = json.loads(stand_in.requests()[-1]["body"])
    uses = [block["id"] for block in body["messages"][-2]["content"] if block["type"] == "tool_use"]
    assert [block["tool_use_id"] for block in body["messages"][-1]["content"]] == uses
    assert len(uses) == 2


def test_a_stream_ends_with_the_calls_that_wait_and_another_one_goes_on(replicas: Replicas, server: McpServer) -> None:
    asked = events(replicas.one.post("/chat/stream", json={"message": calling([TEA])}))
    last = asked[-1]
    assert last["type"] == "input_required"

    (waits,) = last["approvals"]
    path = f"/chat/{last['conversation_id']}/approvals"
    rest = events(replicas.two.post(path, json={"id": waits["id"], "approve": True, "stream": True}))
    assert rest[0]["type"] == "tool_result"
    assert rest[0]["id"] == next(event["id"] for event in asked if event["type"] == "tool_use")
    assert rest[-1]["type"] == "done"
    assert calls(server) == ["tea"]


def test_the_model_learns_that_a_call_was_rejected_and_why(replicas: Replicas, server: McpServer) -> None:
    answer = decide(replicas.two, ask(replicas.one, [TEA]), approve=False, reason="Too expensive.")

    assert calls(server) == []
    assert "it was rejected. Reason: Too expensive." in answer["response"]
    assert answer["steps"][0]["is_error"] is True


def test_an_answer_after_an_approval_is_part_of_the_conversation(replicas: Replicas, stand_in: StandIn) -> None:
    asked = ask(replicas.one, [TEA])
    decide(replicas.two, asked)

    replicas.one.post("/chat", json={"message": "and now?", "conversation_id": asked["conversation_id"]})
    last = json.loads(stand_in.requests()[-1]["body"])["messages"]
    assert [message["role"] for message in last] == ["user", "assistant", "user", "assistant", "user"]


def test_a_call_that_is_approved_many_times_at_two_replicas_runs_once(replicas: Replicas, server: McpServer) -> None:
    asked = ask(replicas.one, [TEA])
    path, body = approval(asked)

    with ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(client.post, path, json=body) for client in (replicas.one, replicas.two) * 4]
        answers = [each.result() for each in sent]

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    assert calls(server) == ["tea"]
    again = replicas.two.post(path, json=body)
    assert (again.status_code, again.json()["detail"]) == (
        409,
        "This tool call was decided before, and the turn has gone on.",
    )
    assert calls(server) == ["tea"]


def test_a_decision_cannot_be_changed(replicas: Replicas, server: McpServer) -> None:
    asked = ask(replicas.one, [TEA, COFFEE])
    path, body = approval(asked)
    first = replicas.one.post(path, json=body | {"approve": False})
    assert [each["input"] for each in first.json()["approvals"]] == [COFFEE["input"]]

    changed = replicas.two.post(path, json=body)

    assert changed.status_code == 409
    assert "was rejected before" in changed.json()["detail"]
    assert calls(server) == []


def test_a_turn_goes_on_when_all_of_its_calls_are_decided(replicas: Replicas, server: McpServer) -> None:
    asked = ask(replicas.one, [TEA, COFFEE])

    first = decide(replicas.two, asked)
    assert first["status"] == "input_required"
    assert calls(server) == []
    decide(replicas.one, asked | {"approvals": first["approvals"]})

    assert sorted(calls(server)) == ["coffee", "tea"]


def test_an_approval_outlives_a_restart_of_the_service(
    server: McpServer, start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    with start_replica(server, start_service, stand_in, tmp_path) as before:
        asked = ask(before, [TEA])
    with start_replica(server, start_service, stand_in, tmp_path) as after:
        decide(after, asked)

    assert calls(server) == ["tea"]


def test_an_approval_is_valid_after_the_conversation_moved_on(
    replicas: Replicas, server: McpServer, stand_in: StandIn
) -> None:
    first = replicas.one.post("/chat", json={"message": "hello"}).json()
    asked = ask(replicas.one, [TEA], conversation_id=first["conversation_id"])
    replicas.two.post("/chat", json={"message": "never mind", "conversation_id": first["conversation_id"]})

    decide(replicas.two, asked)

    assert calls(server) == ["tea"]
    messages = json.loads(stand_in.requests()[-1]["body"])["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant", "user"]
    later = {"message": "and now?", "conversation_id": first["conversation_id"]}
    assert replicas.one.post("/chat", json=later).status_code == 200
    asked_again = json.loads(stand_in.requests()[-1]["body"])["messages"]
    said = [message["content"] for message in asked_again if isinstance(message["content"], str)]
    assert [text for text in said if text in {"hello", "never mind", "and now?"}] == ["hello", "never mind", "and now?"]
    assert "slept tea" in json.dumps(asked_again)


def test_a_conversation_whose_first_message_waits_goes_on(replicas: Replicas, stand_in: StandIn) -> None:
    asked = ask(replicas.one, [TEA])
    conversation = {"conversation_id": asked["conversation_id"]}
    meanwhile = replicas.two.post("/chat", json={"message": "hello", **conversation}).json()
    assert meanwhile["conversation_id"] == asked["conversation_id"]

    decide(replicas.two, asked)
    later = replicas.one.post("/chat", json={"message": "and now?", **conversation}).json()
    assert later["conversation_id"] == asked["conversation_id"]
    messages = json.dumps(json.loads(stand_in.requests()[-1]["body"])["messages"])
    assert messages.index("hello") < messages.index("slept tea") < messages.index("and now?")


def test_a_call_that_gets_no_decision_in_time_does_not_run(
    server: McpServer, start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    with start_replica(server, start_service, stand_in, tmp_path, APPROVAL_TTL_SECONDS="1") as client:
        asked = ask(client, [TEA])
        path, body = approval(asked)
        answers: list[dict[str, Any]] = []

        def goes_on() -> bool:
            answers.append(client.post(path, json={"id": body["id"]}).json())
            return "status" not in answers[-1]

        eventually(goes_on, "the approval expires")
        assert "there was no approval in time" in answers[-1]["response"]
        assert client.post(path, json=body).status_code == 409
        assert 'agent_approvals_total{decision="expired"} 1.0' in client.get("/metrics").text
    assert calls(server) == []


def test_a_turn_may_wait_several_times(replicas: Replicas, server: McpServer) -> None:
    asked = ask(replicas.one, [TEA], [COFFEE])

    second = decide(replicas.two, asked)
    assert second["status"] == "input_required"
    assert second["approvals"][0]["input"] == COFFEE["input"]
    answer = decide(replicas.one, second)

    assert "status" not in answer
    assert calls(server) == ["tea", "coffee"]


def test_a_turn_that_fails_after_its_call_can_go_on_without_making_the_call_again(
    replicas: Replicas, server: McpServer, stand_in: StandIn
) -> None:
    asked = ask(replicas.one, [TEA])
    path, body = approval(asked)
    stand_in.behave(fault=400)
    assert replicas.two.post(path, json=body).status_code == 502
    stand_in.behave()

    def goes_on() -> bool:
        # The failed request releases the turn in the background.
        return replicas.one.post(path, json=body).status_code == 200

    eventually(goes_on, "the turn goes on")
    assert calls(server) == ["tea"]


def test_a_turn_whose_client_leaves_during_its_call_goes_on_and_does_not_repeat_the_call(
    replicas: Replicas, server: McpServer
) -> None:
    path, body = approval(ask(replicas.one, [slow("long", 30)]))

    # The client leaves by its timeout.
    with pytest.raises(httpx.ReadTimeout):
        replicas.two.post(path, json=body | {"stream": True}, timeout=httpx.Timeout(60, read=8))
    eventually(lambda: calls(server) == ["long"], "the call is made")

    answers: list[httpx.Response] = []

    def goes_on() -> bool:
        # The request that ended releases the turn in the background.
        answers.append(replicas.one.post(path, json=body))
        return answers[-1].status_code == 200

    eventually(goes_on, "the turn goes on")
    assert "may have run, but its result was lost" in answers[-1].json()["response"]
    assert calls(server) == ["long"]


def test_a_turn_whose_process_is_killed_goes_on_in_another_one_and_does_not_repeat_the_call(
    server: McpServer, start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    limits = {"REQUEST_TIMEOUT_SECONDS": "10", "STREAM_TIMEOUT_SECONDS": "10"}
    with ThreadPoolExecutor() as pool, start_replica(server, start_service, stand_in, tmp_path, **limits) as killed:
        path, body = approval(ask(killed, [slow("long", 30)]))
        going = pool.submit(killed.post, path, json=body)
        eventually(lambda: calls(server) == ["long"], "the call is made")
    assert isinstance(going.exception(), httpx.TransportError)

    with start_replica(server, start_service, stand_in, tmp_path, **limits) as other:
        answers: list[httpx.Response] = []

        def goes_on() -> bool:
            answers.append(other.post(path, json=body))
            return answers[-1].status_code == 200

        eventually(goes_on, "the turn goes on")
    assert {each.status_code for each in answers[:-1]} <= {409}
    assert "may have run, but its result was lost" in answers[-1].json()["response"]
    assert calls(server) == ["long"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"id": UNKNOWN}, 404),
        ({"id": "no id"}, 404),
        ({"id": "{id}0"}, 404),
        ({"approve": "yes"}, 422),
        ({"reason": "x" * 2001}, 422),
        ({"more": 1}, 422),
    ],
)
def test_a_decision_that_names_no_call_is_refused(replicas: Replicas, change: dict[str, Any], status: int) -> None:
    path, body = approval(ask(replicas.one, [TEA]))
    change = {name: value.format(**body) if isinstance(value, str) else value for name, value in change.items()}

    assert replicas.one.post(path, json=body | change).status_code == status


def test_a_decision_counts_only_in_its_conversation(replicas: Replicas, server: McpServer) -> None:
    asked, other = ask(replicas.one, [TEA]), ask(replicas.one, [TEA])
    path, _ = approval(other)
    _, body = approval(asked)

    assert replicas.one.post(path, json=body).status_code == 404
    assert calls(server) == []


DAMAGE: dict[str, tuple[Any, ...]] = {
    "another type": ("SET", "KEY", "text"),
    "no owner": ("HDEL", "KEY", "owner"),
    "calls without end": ("HSET", "KEY", "calls", "9" * 400),
    "an unknown status": ("HSET", "KEY", "status", "done"),
    "a state that is no JSON": ("HSET", "KEY", "state", b"\xff{"),
    "a state of another form": ("HSET", "KEY", "state", '{"messages": 1}'),
    "a state without end": ("HSET", "KEY", "state", "[" * 100_000),
    "a call of another form": ("HSET", "KEY", "call:1", '["a", "b", 3, "d", "e"]'),
    "no call": ("HDEL", "KEY", "call:1"),
    "an expiry that is none": ("HSET", "KEY", "expires", "soon"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_affects_its_turn_only(
    replicas: Replicas, server: McpServer, redis_server: RedisServer, damage: str
) -> None:
    asked, sound = ask(replicas.one, [TEA]), ask(replicas.one, [COFFEE])
    path, body = approval(asked)
    key = "{portside}:approval:turn:" + body["id"].partition(".")[0]
    with redis.Redis.from_url(redis_server.url) as client:
        if damage == "another type":
            client.delete(key)
        client.execute_command(*(key if part == "KEY" else part for part in DAMAGE[damage]))

    assert replicas.one.post(path, json=body).status_code == 404
    decide(replicas.two, sound)
    assert calls(server) == ["coffee"]


def test_a_stopped_redis_is_reported_and_loses_no_approval(
    server: McpServer, start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    with (
        running_redis(tmp_path) as own_redis,
        start_replica(server, start_service, stand_in, tmp_path, REDIS_URL=own_redis.url) as client,
    ):
        path, body = approval(ask(client, [TEA]))
        own_redis.stop()
        refused = client.post(path, json=body)
        assert (refused.status_code, calls(server)) == (503, [])
        assert "state store" in refused.json()["detail"]

        own_redis.start()
        eventually(lambda: client.post(path, json=body).status_code == 200, "the turn goes on")
    assert calls(server) == ["tea"]
