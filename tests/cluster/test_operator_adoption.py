"""Adoption of a Helm release by the operator, and the way back, without a restart of its pods."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.eventually import eventually
from support.operator import Namespace, OperatorProcess, agent, install_definition, operator
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
CONSENT = "portside.dev/adoptable-by"
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
    """A namespace with the agent as a Helm release whose pods are running."""
    helm("install", "hello", CHART, "-n", here.name, "-f", "-", stdin=json.dumps(VALUES))
    here.await_rollout()
    eventually(lambda: here.get("pdb")["status"].get("expectedPods") == 2, "the budget counts the pods")
    return here


def test_a_request_to_adopt_alone_changes_no_release_and_the_message_has_the_command(release: Namespace) -> None:
    before = _versions(release)

    release.apply(_adopting(agent(**VALUES)))

    # Once one conflicting object is known, all are, and the command names all of them.
    command = eventually(lambda: _command(release), "the command for all objects")
    assert command.split()[:4] == ["kubectl", "annotate", "--namespace", release.name]
    assert set(command.split()[4:-1]) == {
        f"{each['kind'].lower()}/{each['metadata']['name']}" for each in _objects(release)
    }
    assert _versions(release) == before
    release.kubectl("delete", "agentdeployment", "hello", "--cascade=foreground", "--timeout=60s")
    assert _versions(release) == before


def test_the_command_of_the_message_gives_consent(release: Namespace) -> None:
    release.apply(_adopting(agent(**VALUES)))
    command = eventually(lambda: _command(release), "the command for all objects")

    release.kubectl("annotate", *command.split()[4:])

    eventually(lambda: all(_is_owned(each) for each in _objects(release)), "all objects have their owner")


def test_consent_for_part_of_a_release_adopts_nothing(release: Namespace) -> None:
    release.kubectl("annotate", "service/hello", "configmap/hello", f"{CONSENT}=hello")
    before = _versions(release)

    release.apply(_adopting(agent(**VALUES)))

    eventually(lambda: "deployment/hello" in _command(release, fewest=5), "the command for the rest")
    assert "service/hello" not in _command(release, fewest=5)
    assert _versions(release) == before


def test_consent_to_another_agent_is_refused(release: Namespace) -> None:
    _consent(release, to="other")
    before = _versions(release)

    release.apply(_adopting(agent(**VALUES)))

    message = release.await_condition("Degraded", "True", "NameConflict")["message"]
    assert "may be taken over only by AgentDeployment other," in message
    assert _versions(release) == before


def test_consent_without_a_request_to_adopt_adopts_nothing(release: Namespace) -> None:
    _consent(release)
    before = _versions(release)

    release.apply(agent(**VALUES))

    eventually(
        lambda: (
            "annotate --namespace" in (text := release.condition("Degraded").get("message", ""))
            and "agentdeployment/hello portside.dev/adopt=true" in text
        ),
        "the command that asks for it",
    )
    assert _versions(release) == before


def test_an_agent_does_not_prune_what_is_no_longer_its_own(here: Namespace) -> None:
    here.apply(agent(**VALUES))
    here.await_condition("Ready", "False", "RollingOut")
    here.kubectl("patch", "networkpolicy", "hello", "--type=merge", '-p={"metadata":{"ownerReferences":null}}')
    eventually(lambda: "NetworkPolicy" in here.condition("Degraded").get("message", ""), "it is in the way")

    here.apply(agent(**VALUES, networkPolicy={"enabled": False}))

    here.await_condition("Ready", "False", "RollingOut")
    assert here.find("networkpolicy") is not None


def test_an_adopted_release_keeps_its_pods_and_its_client_keys(release: Namespace) -> None:
    pods, keys = _pods(release), release.get("secret", "hello-client-keys")["data"]
    template = release.get("deployment")["spec"]["template"]
    _consent(release)

    release.apply(_adopting(agent(**VALUES)))

    eventually(lambda: all(_is_owned(each) for each in _objects(release)), "all objects have their owner")
    assert release.get("deployment")["spec"]["template"] == template
    assert _pods(release) == pods
    assert release.get("secret", "hello-client-keys")["data"] == keys
    for each in _objects(release):
        assert "helm" not in {share["manager"] for share in each["metadata"]["managedFields"]}
        assert not [name for name in each["metadata"].get("annotations", {}) if name.startswith("meta.helm.sh/")]
        # Otherwise a later agent could adopt what the next owner leaves behind.
        assert CONSENT not in each["metadata"].get("annotations", {})
        assert "helm.sh/chart" not in each["metadata"]["labels"]


def test_what_is_no_longer_desired_is_removed_even_if_helm_added_it(release: Namespace) -> None:
    _consent(release)
    release.apply(_adopting(agent(**VALUES)))
    eventually(lambda: all(_is_owned(each) for each in _objects(release)), "all objects have their owner")

    release.apply(_adopting(agent(**{**VALUES, "podLabels": {"color": "red"}})))

    labels = eventually(
        lambda: (found := release.get("deployment")["spec"]["template"]["metadata"]["labels"]).get("color") and found,
        "the new label is there",
    )
    assert "team" not in labels


def test_an_agent_deleted_without_its_objects_can_be_created_again(here: Namespace) -> None:
    here.apply(agent(**VALUES))
    # The status is written after all objects.
    here.await_condition("Ready", "False", "RollingOut")
    here.await_rollout()
    pods, keys = _pods(here), here.get("secret", "hello-client-keys")["data"]
    here.kubectl("delete", "agentdeployment", "hello", "--cascade=orphan")
    eventually(lambda: not any(_is_owned(each) for each in _objects(here)), "the objects have no owner")
    _consent(here)

    here.apply(_adopting(agent(**VALUES)))

    eventually(lambda: all(_is_owned(each) for each in _objects(here)), "all objects have their owner again")
    assert _pods(here) == pods
    assert here.get("secret", "hello-client-keys")["data"] == keys


def test_moving_back_to_helm_keeps_the_pods(here: Namespace, helm: Helm) -> None:
    here.apply(agent(**VALUES))
    # The status is written after all objects.
    here.await_condition("Ready", "False", "RollingOut")
    here.await_rollout()
    pods, keys = _pods(here), here.get("secret", "hello-client-keys")["data"]

    # As documented in docs/how-to/move-between-helm-and-operator.md.
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


def _consent(here: Namespace, to: str = "hello") -> None:
    """Consent, as the owner of all objects, to their adoption by an agent."""
    selector = "--selector=app.kubernetes.io/instance=hello"
    here.kubectl("annotate", OBJECTS, selector, "--overwrite", f"{CONSENT}={to}")


def _command(here: Namespace, fewest: int = 8) -> str:
    """Return the command in the agent's status that gives consent; empty while it names fewer than `fewest` objects."""
    for text in re.findall(r"`([^`]+)`", here.condition("Degraded").get("message", "")):
        if text.endswith(f"{CONSENT}=hello") and len(text.split()) - 5 >= fewest:
            return str(text)
    return ""


def _objects(here: Namespace) -> list[dict[str, Any]]:
    """Return the agent's objects as observed."""
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
