"""A budget on the real node: enforced by all pods, published in the status, and raised."""

import pytest

from e2e.agents import AGENT, apply_agent, client, condition, pods, put_secret, secret_spec
from stand_in import asking
from support.eventually import eventually
from testbed.cluster import Cluster
from testbed.redis import SHARED, put_redis

pytestmark = pytest.mark.usefixtures("operator")

# The operator polls every half minute.
REPORT_SECONDS = 90


def test_an_agent_with_a_budget_stops_and_resumes_when_it_is_raised(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    def column() -> str:
        heads, values = real_cluster.kubectl("get", "agentdeployment", AGENT, "-n", namespace, "-owide").splitlines()
        # By position, since a column without a value is blank.
        return values[heads.index("BUDGET") :].partition(" ")[0]

    def judged() -> str:
        return str(condition(real_cluster, namespace, "WithinBudget").get("reason"))

    def events() -> list[str]:
        of = ["--field-selector", "reason=BudgetUsedUp"]
        return [event["type"] for event in real_cluster.get("events", "-n", namespace, *of)["items"]]

    put_redis(real_cluster, namespace)
    put_secret(real_cluster, namespace, "key-of-the-tests")
    prices = {"claude-sonnet-5-5": {"input": "3", "output": "15"}}
    budget = {"period": "month", "tokens": 200, "cost": "10.00", "prices": prices}
    spec = secret_spec(model_api, redis=SHARED, replicas=2, budget=budget)
    apply_agent(real_cluster, namespace, spec)
    eventually(lambda: judged() == "BudgetLeft", "the status reports it", REPORT_SECONDS)
    assert column() == "0"

    one, other = pods(real_cluster, namespace)
    with (
        client(real_cluster, namespace, f"pod/{one}", 8000) as first,
        client(real_cluster, namespace, f"pod/{other}", 8000) as second,
    ):
        first.post("/chat", json={"message": asking(words=300)}).raise_for_status()
        refuses = lambda: second.post("/chat", json={"message": "Hello."}).status_code == 429  # noqa: E731
        eventually(refuses, "the budget is used up for the other pod too", 10)
    eventually(lambda: judged() == "BudgetUsedUp", "the status reports it", REPORT_SECONDS)
    assert int(column()) > 100
    eventually(lambda: events() == ["Warning"], "one Event reports it", REPORT_SECONDS)

    apply_agent(real_cluster, namespace, spec | {"budget": budget | {"tokens": 100_000}})
    eventually(lambda: judged() == "BudgetLeft", "the status reports the raise", REPORT_SECONDS)
    with client(real_cluster, namespace) as http:
        assert http.post("/chat", json={"message": "Hello."}).status_code == 200
