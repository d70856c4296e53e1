"""The agent's MCP server against the conformance suite of MCP, in both revisions."""

from collections.abc import Iterator

import pytest

from support.agent import Service, running_service
from support.mcp_conformance import RUNS, Outcome, inapplicable, run_suite, unexpected
from support.redis_server import RedisServer


@pytest.fixture(scope="module")
def agent(redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"MODEL_PROVIDER": "echo", "REDIS_URL": redis_process.url, "RATE_LIMIT_REQUESTS": "0"}
    with running_service(tmp_path_factory.mktemp("agent"), **settings, API_MCP="true") as service:
        yield service


@pytest.fixture(scope="module")
def outcomes(agent: Service, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return {revision: run_suite(f"{agent.url}/mcp", revision, tmp_path_factory.mktemp("suite")) for revision in RUNS}


@pytest.mark.parametrize("revision", RUNS)
def test_the_server_passes_every_check_that_can_apply(outcomes: dict[str, Outcome], revision: str) -> None:
    assert unexpected(outcomes[revision]) == {}
    assert sum(len(found) for found in outcomes[revision].checks.values()) > 50


def test_every_exception_is_needed(outcomes: dict[str, Outcome]) -> None:
    scenarios, checks = inapplicable()
    failed = {scenario for outcome in outcomes.values() for scenario in outcome.failed}
    failed_checks = {check for outcome in outcomes.values() for found in outcome.failed.values() for check in found}

    assert scenarios - failed == set()
    assert checks - failed_checks == set()


def test_the_suite_causes_no_error_in_the_agent(agent: Service, outcomes: dict[str, Outcome]) -> None:
    assert outcomes
    assert '"level":"error"' not in agent.log()
    assert "Traceback" not in agent.log()
