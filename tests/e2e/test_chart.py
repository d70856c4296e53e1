"""The same agent with no operator: `helm install`, an answer, and `helm uninstall`."""

import json

from e2e.agents import AGENT, READY_SECONDS, agent_spec, client, leftovers, wait_until
from testbed import paths
from testbed.cluster import Cluster

CHART = str(paths.REPOSITORY / "helm" / "agent")


def test_an_agent_installed_by_its_chart_answers_and_leaves_nothing(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    values = json.dumps(agent_spec(model_api))
    install = ["install", AGENT, CHART, "-n", namespace, "-f-", "--wait", f"--timeout={READY_SECONDS}s"]
    real_cluster.helm(*install, stdin=values)

    with client(real_cluster, namespace) as http:
        answer = http.post("/chat", json={"message": "And without an operator?"}).raise_for_status().json()
    assert 'Stand-in heard "And without an operator?"' in answer["response"]

    real_cluster.helm("uninstall", AGENT, "-n", namespace, "--wait")
    wait_until(lambda: leftovers(real_cluster, namespace) == [], "nothing is left of the release", READY_SECONDS)
