"""The metrics of real pods, as Prometheus scrapes them."""

import pytest

from e2e.agents import AGENT, agent_spec, apply_agent, client
from support.promtool import promtool
from testbed.cluster import Cluster

pytestmark = pytest.mark.usefixtures("operator")


def test_promtool_reports_no_problem(real_cluster: Cluster, namespace: str, model_api: str) -> None:
    apply_agent(real_cluster, namespace, agent_spec(model_api))
    with client(real_cluster, namespace) as http:
        http.post("/chat", json={"message": "Count me."}).raise_for_status()
    with client(real_cluster, namespace, f"deployment/{AGENT}", 9090) as http:
        agent = http.get("/metrics").raise_for_status().text
    with client(real_cluster, "portside-system", "deployment/agent-operator", 8080) as http:
        operator = http.get("/metrics").raise_for_status().text

    assert 'agent_http_requests_total{method="POST",route="/chat",status="200"} 1.0' in agent
    assert 'agent_operator_reconciles_total{result="' in operator
    for metrics in (agent, operator):
        assert promtool("check", "metrics", stdin=metrics) == (0, "")
