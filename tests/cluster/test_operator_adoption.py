"""A Helm release goes over to the operator, and back, and its pods do not notice."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cluster.operator_bed import Namespace, OperatorProcess, agent, eventually, install_definition, operator
from testbed import paths
from testbed.cluster import Cluster

pytestmark = pytest.mark.timing

CHART = str(paths.REPOSITORY / "helm" / "agent")
VALUES: dict[str, Any] = {
    "agent": {"provider": "anthropic"},
    "apiKey": {"value": "sk-test-key"},
    "auth": {"enabled": True},
    "replicas": 2,
    "podLabels": {"team": "blue"},
}
OBJECTS = "configmap,service,serviceaccount,deployment,secret,networkpolicy,poddisruptionbudget"
Helm = Callable[..., str]


@pytest.fixture(scope="module")
def running(control_plane: Cluster) -> Iterator[OperatorProcess]:
    """The operator."""
    install_definition(control_plane)
    with operator(control_plane.kubeconfig) as process:
        yield process


@pytest.fixture
def here(control_plane: Cluster, namespace: str, running: OperatorProcess) -> Namespace:
    """A fresh namespace, watched by the operator."""
    return Namespace(control_plane, namespace)


@pytest.fixture
def release(helm: Helm, here: Namespace) -> Namespace:
    """A namespace with the agent as a Helm release, whose pods run."""
    helm("install", "hello", CHART, "-n", here.name, "-f", "-", stdin=json.dumps(VALUES))
    here.await_rollout()
    eventually(lambda: here.get("pdb")["status"].get("expectedPods") == 2, "the budget counts the pods")
    return here


def test_a_release_is_not_touched_unless_that_is_asked_for(release: Namespace) -> None:
    before = _versions(release)

    release.apply(agent(**VALUES))

    message = release.await_condition("Ready", "False", "NameConflict")["message"]
    assert "annotate this AgentDeployment with portside.dev/adopt=true" in message
    assert _versions(release) == before


def test_a_release_goes_over_with_its_pods_and_its_client_keys(release: Namespace, helm: Helm) -> None:
    pods, keys = _pods(release), release.get("secret", "hello-client-keys")["data"]
    template = release.get("deployment")["spec"]["template"]

    release.apply(_adopting(agent(**VALUES)))

    eventually(lambda: all(_is_owned(each) for each in _objects(release)), "all objects have their owner")
    assert release.get("deployment")["spec"]["template"] == template
    assert _pods(release) == pods
    assert release.get("secret", "hello-client-keys")["data"] == keys
    for each in _objects(release):
        assert "helm" not in {share["manager"] for share in each["metadata"]["managedFields"]}
        assert not [name for name in each["metadata"].get("annotations", {}) if name.startswith("meta.helm.sh/")]
        assert "helm.sh/chart" not in each["metadata"]["labels"]


def test_what_is_no_longer_wanted_goes_also_when_helm_had_put_it_there(release: Namespace) -> None:
    release.apply(_adopting(agent(**VALUES)))
    eventually(lambda: all(_is_owned(each) for each in _objects(release)), "all objects have their owner")

    release.apply(_adopting(agent(**{**VALUES, "podLabels": {"color": "red"}})))

    labels = eventually(
        lambda: (found := release.get("deployment")["spec"]["template"]["metadata"]["labels"]).get("color") and found,
        "the new label is there",
    )
    assert "team" not in labels


def test_an_agent_that_was_deleted_with_its_objects_left_comes_back(here: Namespace) -> None:
    here.apply(agent(**VALUES))
    # The status is written after all objects.
    here.await_condition("Ready", "False", "RollingOut")
    here.await_rollout()
    pods, keys = _pods(here), here.get("secret", "hello-client-keys")["data"]
    here.kubectl("delete", "agentdeployment", "hello", "--cascade=orphan")
    eventually(lambda: not any(_is_owned(each) for each in _objects(here)), "the objects have no owner")

    here.apply(_adopting(agent(**VALUES)))

    eventually(lambda: all(_is_owned(each) for each in _objects(here)), "all objects have their owner again")
    assert _pods(here) == pods
    assert here.get("secret", "hello-client-keys")["data"] == keys


def test_the_way_back_to_helm_keeps_the_pods(here: Namespace, helm: Helm) -> None:
    here.apply(agent(**VALUES))
    # The status is written after all objects.
    here.await_condition("Ready", "False", "RollingOut")
    here.await_rollout()
    pods, keys = _pods(here), here.get("secret", "hello-client-keys")["data"]

    # As docs/adoption.md has it.
    here.kubectl("delete", "agentdeployment", "hello", "--cascade=orphan")
    eventually(lambda: not any(_is_owned(each) for each in _objects(here)), "the objects have no owner")
    values = json.dumps(VALUES)
    helm("install", "hello", CHART, "-n", here.name, "--take-ownership", "--force-conflicts", "-f", "-", stdin=values)

    assert _pods(here) == pods
    assert here.get("secret", "hello-client-keys")["data"] == keys
    assert here.get("deployment")["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
    helm("uninstall", "hello", "-n", here.name)
    eventually(lambda: here.find("deployment") is None, "the release is gone")


def _adopting(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "metadata": {**document["metadata"], "annotations": {"portside.dev/adopt": "true"}}}


def _objects(here: Namespace) -> list[dict[str, Any]]:
    """The agent's objects, as they are."""
    selector = "--selector=app.kubernetes.io/instance=hello"
    text = here.kubectl("get", OBJECTS, selector, "-ojson", "--show-managed-fields")
    items: list[dict[str, Any]] = json.loads(text)["items"]
    assert len(items) >= 7
    return items


def _versions(here: Namespace) -> dict[str, str]:
    return {each["metadata"]["uid"]: each["metadata"]["resourceVersion"] for each in _objects(here)}


def _is_owned(document: dict[str, Any]) -> bool:
    owners = document["metadata"].get("ownerReferences", [])
    return [owner["kind"] for owner in owners] == ["AgentDeployment"]


def _pods(here: Namespace) -> set[str]:
    return {pod["metadata"]["uid"] for pod in here.list("pods")}
