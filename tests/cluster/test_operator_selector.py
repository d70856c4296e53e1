"""Several operators side by side, each with its own agents."""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from support.eventually import eventually
from support.operator import Namespace, agent, install_definition, operator
from testbed.cluster import Cluster

pytestmark = pytest.mark.timing

T = TypeVar("T")
KINDS = "deployment,service,configmap,agentdeployment"


@pytest.fixture
def here(control_plane: Cluster, namespace: str) -> Namespace:
    """A namespace of a cluster with our definition."""
    install_definition(control_plane)
    return Namespace(control_plane, namespace)


def labelled(operator_name: str, name: str = "hello") -> dict[str, Any]:
    document = agent(name)
    document["metadata"]["labels"] = {"portside.dev/operator": operator_name}
    return document


def selector(operator_name: str) -> list[str]:
    return [f"--selector=portside.dev/operator={operator_name}"]


def test_each_operator_serves_the_agents_that_its_selector_names(here: Namespace) -> None:
    with (
        operator(here.cluster.kubeconfig, here.name, more=selector("blue")) as blue,
        operator(here.cluster.kubeconfig, here.name, more=selector("green")) as green,
    ):
        here.apply(labelled("blue", "sky"))
        here.apply(labelled("green", "grass"))
        here.apply(agent("nobodys"))
        here.get("deployment", "sky")
        here.get("deployment", "grass")

        assert ('"grass"' in blue.log, '"sky"' in green.log) == (False, False)
        assert here.find("deployment", "nobodys") is None


def test_an_agent_moved_to_another_operator_is_taken_over_unchanged(here: Namespace) -> None:
    with (
        operator(here.cluster.kubeconfig, here.name, more=selector("blue")) as blue,
        operator(here.cluster.kubeconfig, here.name, more=selector("green")) as green,
    ):
        here.apply(labelled("blue"))
        here.await_condition("Ready", "False", "RollingOut")
        here.await_rollout()
        before = _settled(lambda: _versions(here))

        here.kubectl("label", "--overwrite", "agentdeployment", "hello", "portside.dev/operator=green")
        eventually(lambda: _reconciles(green) >= 1, "the other operator reconciles it")

        after = _versions(here)
        assert {name: version for name, version in after.items() if "AgentDeployment" not in name} == {
            name: version for name, version in before.items() if "AgentDeployment" not in name
        }
        done = _settled(lambda: _reconciles(blue))
        here.kubectl("delete", "service", "hello")
        here.get("service")
        eventually(lambda: "Applied" in green.log, "the other operator reports that it applied the Service")
        assert _reconciles(blue) == done


def _reconciles(process: Any) -> float:
    value: float = process.metric('agent_operator_reconciles_total{result="success"}')
    return value


def _versions(here: Namespace) -> dict[str, str]:
    items = here.list(KINDS)
    return {f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["resourceVersion"] for each in items}


def _settled(look: Callable[[], T]) -> T:
    """Return the value once two checks in a row agree."""
    looks: list[T] = []

    def again() -> bool:
        looks.append(look())
        return looks[-2:-1] == looks[-1:]

    eventually(again, "nothing changes any more")
    return looks[-1]
