"""A Helm release is adopted by the operator and returned to Helm while its pods keep serving."""

import json

import pytest

from e2e.agents import AGENT, READY_SECONDS, agent_object, is_ready, lives, put_secret, secret_spec
from e2e.traffic import steady_traffic
from support.eventually import eventually
from testbed import paths
from testbed.cluster import Cluster

pytestmark = pytest.mark.usefixtures("operator")
OBJECTS = "deployment,service,configmap,secret,serviceaccount,networkpolicy"
CHART = str(paths.REPOSITORY / "helm" / "agent")


def test_a_release_is_adopted_by_the_operator_and_returned_with_the_same_pods(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    put_secret(real_cluster, namespace, "key-of-the-tests")
    spec = secret_spec(model_api)
    release = ["-n", namespace, "-f-", "--wait", f"--timeout={READY_SECONDS}s"]
    real_cluster.helm("install", AGENT, CHART, *release, stdin=json.dumps(spec))
    before = lives(real_cluster, namespace)
    agent = agent_object(spec)
    agent["metadata"] |= {"annotations": {"portside.dev/adopt": "true"}}

    with steady_traffic(real_cluster, f"http://{AGENT}.{namespace}") as traffic:
        selector = f"--selector=app.kubernetes.io/instance={AGENT}"
        real_cluster.kubectl("annotate", OBJECTS, "-n", namespace, selector, f"portside.dev/adoptable-by={AGENT}")
        real_cluster.kubectl("apply", "-n", namespace, "-f-", stdin=json.dumps(agent))
        eventually(lambda: is_ready(real_cluster, namespace), "the agent is Ready", READY_SECONDS)
        real_cluster.kubectl("delete", "secret", "-n", namespace, "-l", f"owner=helm,name={AGENT}")
        assert _managers(real_cluster, namespace) == {"portside-operator"}
        assert real_cluster.helm("list", "-n", namespace, "-q") == ""
        assert lives(real_cluster, namespace) == before
        adopted = len(traffic.answers)

        real_cluster.kubectl("delete", "agentdeployment", AGENT, "-n", namespace, "--cascade=orphan", "--timeout=90s")
        over = ["--take-ownership", "--force-conflicts"]
        real_cluster.helm("install", AGENT, CHART, *release, *over, stdin=json.dumps(spec))
        assert _managers(real_cluster, namespace) == {"Helm"}
        assert real_cluster.helm("list", "-n", namespace, "-q").split() == [AGENT]
        assert lives(real_cluster, namespace) == before

    assert len(traffic.answers) > adopted > 0
    assert traffic.failed == []


def _managers(cluster: Cluster, namespace: str) -> set[str]:
    """Return the managers that the labels of the agent's own objects name."""
    found = cluster.get(
        "deployment,service,configmap,serviceaccount", "-n", namespace, "-l", f"app.kubernetes.io/instance={AGENT}"
    )
    return {each["metadata"]["labels"]["app.kubernetes.io/managed-by"] for each in found["items"]}
