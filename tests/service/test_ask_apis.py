"""`agent-service ask --api`: one question to a running agent in each of its protocols."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_service.client.protocols import PROTOCOLS
from support.agent import Service, run_agent_service, running_service
from support.redis_server import RedisServer

CLIENT_KEY = "a-client-key-of-the-tests"
OFF = {"API_OPENAI": "false", "API_ANTHROPIC": "false", "API_A2A": "false", "API_MCP": "false"}
OTHERS = sorted(PROTOCOLS.keys() - {"native"})


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, redis_process: RedisServer) -> Iterator[Service]:
    """Yield an agent that needs a client key and speaks every protocol."""
    folder = tmp_path_factory.mktemp("agent")
    settings = {"API_KEYS": CLIENT_KEY, "API_MCP": "true", "REDIS_URL": redis_process.url}
    with running_service(folder, MODEL_PROVIDER="echo", **settings) as service:
        yield service


@pytest.mark.parametrize("api", PROTOCOLS)
def test_the_answer_is_the_same_in_every_protocol(agent: Service, tmp_path: Path, api: str) -> None:
    question = "Ahoy, ✓ and\nanother line"

    result = run_agent_service("ask", question, "--url", agent.url, "--api", api, folder=tmp_path, API_KEYS=CLIENT_KEY)

    assert (result.returncode, result.stdout, result.stderr) == (0, f"You said: {question}\n", "")


@pytest.mark.parametrize("api", PROTOCOLS)
def test_a_rejected_key_is_a_one_line_error_in_every_protocol(agent: Service, tmp_path: Path, api: str) -> None:
    result = run_agent_service(
        "ask", "Hello", "--url", agent.url, "--api", api, folder=tmp_path, API_KEYS="another-key"
    )

    assert (result.returncode, result.stdout) == (1, "")
    assert "answered 401" in result.stderr
    assert "no reason given" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_protocol_that_is_disabled_is_named_with_its_setting(tmp_path: Path, redis_server: RedisServer) -> None:
    with running_service(tmp_path, MODEL_PROVIDER="echo", REDIS_URL=redis_server.url, **OFF) as service:
        for api in OTHERS:
            result = run_agent_service("ask", "Hello", "--url", service.url, "--api", api, folder=tmp_path)

            assert (result.returncode, result.stdout) == (1, "")
            assert f"Is the protocol enabled (API_{api.upper()};" in result.stderr
