"""Agents of other people, unmodified, as runtimes: each answers by every route, and its model calls are counted."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from stand_in import StandIn
from support.agent import KEY, Service, running_service
from support.eventually import eventually
from support.frameworks import FRAMEWORKS, running_framework
from support.redis_server import RedisServer
from testbed.ports import free_port

# The program of the Claude Agent SDK takes seconds to start, for every turn.
ANSWER_SECONDS = 90


@pytest.fixture(params=FRAMEWORKS)
def agent(
    request: pytest.FixtureRequest, tmp_path: Path, stand_in: StandIn, redis_server: RedisServer
) -> Iterator[Service]:
    """Run a service whose runtime is the framework's agent."""
    name: str = request.param
    gateway_port = free_port()
    with ExitStack() as stack:
        runtime = stack.enter_context(running_framework(name, gateway_port=gateway_port, folder=tmp_path))
        yield stack.enter_context(
            running_service(
                tmp_path,
                ANTHROPIC_API_KEY=KEY,
                ANTHROPIC_BASE_URL=stand_in.url,
                REDIS_URL=redis_server.url,
                API_RUNS_TASKS="true",
                RUNTIME_URL=runtime,
                RUNTIME_PROTOCOL=FRAMEWORKS[name].protocol,
                GATEWAY_PORT=str(gateway_port),
                REQUEST_TIMEOUT_SECONDS=str(ANSWER_SECONDS),
            )
        )


def test_an_agent_of_the_framework_answers_and_its_model_calls_are_counted(agent: Service, stand_in: StandIn) -> None:
    streamed = agent.post("/chat/stream", message="Is the tide rising?")
    task = agent.post("/tasks", message="Is the tide falling?").json()
    done = eventually(lambda: _finished(agent, task["status_url"]), "the task is done", ANSWER_SECONDS)

    assert streamed.status_code == 200
    assert '"type":"done"' in streamed.text.replace(" ", "")
    assert "tide rising?" in "".join(_texts(streamed.text))
    assert done["status"] == "completed", done
    assert "tide falling?" in done["result"]["response"]
    calls = [each for each in stand_in.requests() if each["path"] == "/v1/messages"]
    assert len(calls) >= 2
    # The runtime has only a placeholder; the gateway adds the key.
    assert {each["key"] for each in calls} == {KEY[-4:]}
    assert agent.metric('agent_model_requests_total{model="claude-sonnet-5-5",outcome="ok"}') == len(calls)
    assert agent.metric('agent_tokens_total{direction="output",model="claude-sonnet-5-5"}') > 0


def _finished(agent: Service, url: str) -> dict[str, Any] | None:
    found: dict[str, Any] = agent.get(url).json()
    return found if found["status"] in {"completed", "failed"} else None


def _texts(events: str) -> Iterator[str]:
    for line in events.splitlines():
        if line.startswith("data: "):
            event = json.loads(line[6:])
            if event["type"] == "text":
                yield event["content"]
