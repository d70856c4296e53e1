"""A task whose worker ends goes on from its last complete step: real processes, Redis, an MCP server, the stand-in.

Two processes serve all tests of this file: the first one is killed while it runs a task for each of them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from stand_in import StandIn, asking
from support.agent import KEY, Service, running_service
from support.eventually import eventually
from support.mcp_servers import McpServer, sdk_server
from support.redis_server import RedisServer
from support.tool_agent import questions, results, texts

LOST = "The call may have run, but its result was lost. Its effects, if any, remain. Check before you repeat it."
DAMAGE = {"cut": "{", "binary": "\xff\0", "another form": "[]"}


def quick(label: str) -> dict[str, Any]:
    """Return a call that is answered at once."""
    return {"name": "slow", "input": {"duration": 0, "label": label}}


def wait(name: str) -> dict[str, Any]:
    """Return a call that does not end while a test runs."""
    return {"name": "slow", "input": {"duration": 600, "label": name}}


@dataclass(frozen=True)
class Tasks:
    """The tasks of a killed process, and the process that goes on with them."""

    paths: dict[str, str]
    service: Service
    server: McpServer
    stand_in: StandIn
    redis: RedisServer

    def ended(self, name: str, status: str = "completed") -> dict[str, Any]:
        """Wait until a task has this status, and return it."""
        return until(self.service, self.paths[name], status)

    def calls_of(self, *items: str) -> list[str]:
        """Return the calls with these arguments, in the order in which they were made."""
        return [label for label in made(self.server) if label in items]

    def received(self, name: str) -> list[str]:
        """Return the results in the newest question to the model of a task."""
        asked = [body for body in questions(self.stand_in) if name in json.dumps(body["messages"][0])]
        return texts(results(asked[-1]))


def until(service: Service, path: str, status: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found.append(service.get(path).json())
        return bool(found[-1]["status"] == status)

    eventually(is_there, f"the task is {status}", 60)
    return found[-1]


def made(server: McpServer) -> list[str]:
    """Return the labels of the calls that began, and `add` for one of that tool."""
    return [call.get("label", call["tool"]) for call in server.recorded() if call.get("event", "started") == "started"]


def progress_of(path: str) -> str:
    return f"{{portside}}:task:progress:{path.rpartition('/')[2]}"


@pytest.fixture(scope="module")
def tasks(
    stand_in_process: StandIn, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tasks]:
    folder = tmp_path_factory.mktemp("progress")
    stand_in_process.reset()
    redis_process.command("FLUSHALL")
    (folder / "tools").mkdir()
    server = sdk_server(folder / "tools").start()
    try:
        file = folder / "tools.json"
        tools = [{"name": "shop", "mcp": {"url": server.url}, "approve": ["add"]}]
        file.write_text(json.dumps({"tools": tools}), encoding="utf-8")
        settings = {
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": stand_in_process.url,
            "REDIS_URL": redis_process.url,
            "TOOLS_FILE": str(file),
            "RATE_LIMIT_REQUESTS": "0",
            "WORKER_CONCURRENCY": "20",
            "API_RUNS_TASKS": "true",
            "MAX_TOOL_CALLS": "4",
        }
        with running_service(folder, **settings) as first:
            paths = started(first, server, stand_in_process, redis_process)
            first.kill()
        for name, damage in DAMAGE.items():
            key = progress_of(paths[name])
            assert redis_process.command("HDEL", key, "state") == b":1\r\n"
            redis_process.command("HSET", key, "state", damage)
        redis_process.command("DEL", progress_of(paths["missing"]))
        with running_service(folder, **settings) as second:
            yield Tasks(paths, second, server, stand_in_process, redis_process)
    finally:
        server.kill()


def started(service: Service, server: McpServer, stand_in: StandIn, redis: RedisServer) -> dict[str, str]:
    """Submit the tasks, and wait until each is where the process is to be killed."""
    steps: dict[str, list[list[dict[str, Any]]]] = {
        "second step": [[quick("tea")], [wait("second step")], [quick("ink")]],
        "parallel": [[wait("parallel"), quick("rum")]],
        "approval": [[wait("approval"), {"name": "add", "input": {"a": 1, "b": 2}}]],
        "bounds": [[wait("bounds"), quick("fig")], [quick("oil"), quick("nut"), quick("pea")]],
        "cancelled": [[wait("cancelled")], [quick("gin")]],
        **{name: [[wait(name)], [quick("jam")]] for name in [*DAMAGE, "missing"]},
    }
    paths = {}
    for name, calls in steps.items():
        paths[name] = submit(service, asking(name, calls=calls))
    paths["answer"] = submit(service, asking("answer", calls=[[quick("egg")]], hold="answer", after=9))
    eventually(lambda: set(steps) <= set(made(server)), "all calls are made", 60)
    eventually(
        lambda: all(_kept(redis, paths[name]) == 1 for name in ("parallel", "bounds", "answer")), "they are kept"
    )
    assert service.get(paths["answer"]).json()["status"] == "running"
    assert httpx.delete(service.url + paths["cancelled"], timeout=30).status_code == 200
    return paths


def submit(service: Service, message: str) -> str:
    answer = service.post("/tasks", message=message)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["status_url"])


def _kept(redis: RedisServer, path: str) -> int:
    return redis.command("HKEYS", progress_of(path)).count(b"result:")


def test_a_task_killed_in_its_second_step_goes_on_with_it(tasks: Tasks) -> None:
    done = tasks.ended("second step")

    assert tasks.calls_of("tea", "second step", "ink") == ["tea", "second step", "ink"]
    steps = done["result"]["steps"]
    assert [step["content"] for step in steps] == ["slept tea", LOST, "slept ink"]
    assert [step["is_error"] for step in steps] == [False, True, False]
    assert done["result"]["response"].startswith("Calling slow.\n\nCalling slow.\n\nCalling slow.\n\n")
    assert done["attempts"] == 2


def test_of_two_parallel_calls_the_answered_one_keeps_its_result(tasks: Tasks) -> None:
    done = tasks.ended("parallel")

    assert sorted(tasks.calls_of("parallel", "rum")) == ["parallel", "rum"]
    assert tasks.received("parallel") == [LOST, "slept rum"]
    assert [step["content"] for step in done["result"]["steps"]] == [LOST, "slept rum"]


def test_a_task_killed_in_the_answer_of_the_model_asks_again_with_the_results_of_its_last_step(tasks: Tasks) -> None:
    tasks.stand_in.release("answer")

    done = tasks.ended("answer")

    assert tasks.calls_of("egg") == ["egg"]
    assert tasks.received("answer") == ["slept egg"]
    assert [step["content"] for step in done["result"]["steps"]] == ["slept egg"]


def test_a_call_that_needs_an_approval_waits_for_it_in_the_next_attempt(tasks: Tasks) -> None:
    (waits,) = tasks.ended("approval", "input_required")["approvals"]
    assert tasks.calls_of("add") == []

    answer = tasks.service.post(f"{tasks.paths['approval']}/approvals", id=waits["id"], approve=True)
    assert answer.status_code == 200, answer.text

    done = tasks.ended("approval")
    assert tasks.calls_of("approval", "add") == ["approval", "add"]
    assert tasks.received("approval") == [LOST, "3"]
    assert [step["is_error"] for step in done["result"]["steps"]] == [True, False]


def test_the_bound_of_tool_calls_holds_over_all_attempts(tasks: Tasks) -> None:
    done = tasks.ended("bounds")

    assert sorted(tasks.calls_of("bounds", "fig", "oil", "nut", "pea")) == ["bounds", "fig", "nut", "oil"]
    assert done["result"]["stop_reason"] == "max_tool_calls"
    assert len(done["result"]["steps"]) == 5


def test_a_task_that_was_cancelled_leaves_nothing_and_does_not_go_on(tasks: Tasks) -> None:
    tasks.ended("second step")

    assert tasks.ended("cancelled", "failed")["error"]["code"] == "cancelled"
    assert tasks.calls_of("gin") == []
    assert tasks.redis.command("EXISTS", progress_of(tasks.paths["cancelled"])) == b":0\r\n"


@pytest.mark.parametrize("name", ["second step", "parallel", "bounds"])
def test_the_events_of_a_task_have_each_text_and_call_once_though_its_process_was_killed(
    tasks: Tasks, name: str
) -> None:
    done = tasks.ended(name)["result"]
    lines = tasks.service.get(f"{tasks.paths[name]}/events").text.splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]

    assert "".join(event["content"] for event in events if event["type"] == "text") == done["response"]
    assert [event["id"] for event in events if event["type"] == "tool_use"] == [step["id"] for step in done["steps"]]
    results = {event["id"]: event["content"] for event in events if event["type"] == "tool_result"}
    assert results == {step["id"]: step["content"] for step in done["steps"]}
    others = [event for event in events if event["type"] not in {"text", "tool_use", "tool_result"}]
    assert [event["type"] for event in others] == ["resumed", "done"]


@pytest.mark.parametrize("name", [*DAMAGE, "missing"])
def test_a_task_whose_progress_is_damaged_fails_and_repeats_no_call(tasks: Tasks, name: str) -> None:
    assert tasks.ended(name, "failed")["error"]["code"] == "progress_lost"
    assert tasks.calls_of(name, "jam") == [name]


def test_the_progress_of_a_task_is_removed_when_it_ends(tasks: Tasks) -> None:
    for name in ("second step", "parallel"):
        tasks.ended(name)
        assert tasks.redis.command("EXISTS", progress_of(tasks.paths[name])) == b":0\r\n"
