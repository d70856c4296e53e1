"""What the metrics show of the model API and Redis, by which the operator and alerts learn of an outage."""

import re

import pytest

from stand_in import StandIn
from stand_in.agent import KEY, StartService, eventually

pytestmark = pytest.mark.timing

SERIES = re.compile(r"^(agent_dependency_\w+\{[^}]*\}) (\S+)$", re.MULTILINE)


@pytest.mark.parametrize("processes", [1, 2])
def test_an_outage_of_the_model_api_stands_in_the_metrics_until_it_ends(
    start_service: StartService, stand_in: StandIn, processes: int
) -> None:
    stand_in.direct("[[fault:500]]")
    service = start_service(ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url, API_WORKERS=str(processes))

    def series() -> dict[str, float]:
        return {name: float(value) for name, value in SERIES.findall(service.get("/metrics").text)}

    failing = 'agent_dependency_failing{component="model_api",kind="failed"}'
    down = {'agent_dependency_up{component="model_api"}': 0, 'agent_dependency_up{component="redis"}': 1, failing: 1}
    eventually(lambda: series() == down, "the outage shows", 60)
    stand_in.direct("")
    up = {name: 0 if name == failing else 1 for name in down}
    eventually(lambda: series() == up, "its end shows", 60)
