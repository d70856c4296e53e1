"""Metrics of the model API and Redis, from which the operator and alerts detect an outage."""

import re

import pytest

from stand_in import StandIn
from support.agent import KEY, StartService
from support.eventually import eventually

pytestmark = pytest.mark.timing

SERIES = re.compile(r"^(agent_dependency_\w+\{[^}]*\}) (\S+)$", re.MULTILINE)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_metrics_show_an_outage_of_the_model_api_until_it_ends(
    start_service: StartService, stand_in: StandIn, processes: int
) -> None:
    stand_in.behave(fault=500)
    service = start_service(ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url, API_WORKERS=str(processes))

    def shown() -> tuple[dict[str, float], set[str]]:
        """Return whether each component is up, and the current causes of failure."""
        series = {name: float(value) for name, value in SERIES.findall(service.get("/metrics").text)}
        up = {name: value for name, value in series.items() if name.startswith("agent_dependency_up")}
        return up, {name for name, value in series.items() if name not in up and value == 1}

    model_api, redis = 'agent_dependency_up{component="model_api"}', 'agent_dependency_up{component="redis"}'
    # On a busy machine a check may time out first: that is another cause, which ends.
    failing = {'agent_dependency_failing{component="model_api",kind="failed"}'}
    eventually(lambda: shown() == ({model_api: 0, redis: 1}, failing), "the outage shows", 120)
    stand_in.behave()
    eventually(lambda: shown() == ({model_api: 1, redis: 1}, set()), "its end shows", 120)
