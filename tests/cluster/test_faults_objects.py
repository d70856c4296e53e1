"""Objects created, deleted and changed in unplanned ways: the operator still ends at the desired state."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from agent_operator.api.crd import crd
from support.eventually import eventually
from support.operator import Namespace, OperatorProcess, agent, install_definition, operator, service_account
from testbed.cluster import Cluster

RESYNC_SECONDS = 5
KINDS = "configmaps,services,deployments,horizontalpodautoscalers,secrets"


@pytest.fixture(scope="module")
def running(control_plane: Cluster) -> Iterator[OperatorProcess]:
    """The operator, on all namespaces, with the documented rights."""
    install_definition(control_plane)
    control_plane.kubectl("create", "namespace", "portside-objects-test")
    try:
        with (
            service_account(control_plane, "portside-objects-test", cluster_wide=True) as kubeconfig,
            operator(kubeconfig, resync_seconds=RESYNC_SECONDS) as process,
        ):
            yield process
    finally:
        control_plane.kubectl("delete", "namespace", "portside-objects-test", "--wait=false")


@pytest.fixture
def here(control_plane: Cluster, namespace: str, running: OperatorProcess) -> Namespace:
    """A fresh namespace, watched by the operator."""
    return Namespace(control_plane, namespace)


def test_a_terminating_namespace_is_left_alone(
    control_plane: Cluster, here: Namespace, running: OperatorProcess
) -> None:
    ending = Namespace(control_plane, f"{here.name}-ending")
    control_plane.kubectl("create", "namespace", ending.name)
    agents = [agent(f"agent-{number}", apiKey={"value": "sk-test-key"}) for number in range(5)]
    ending.kubectl("apply", "--server-side", "-f", "-", stdin="\n---\n".join(map(json.dumps, agents)))
    # Keeps the namespace terminating, while its objects are deleted one by one.
    held = {"name": "held", "finalizers": ["test.portside.dev/held"]}
    ending.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": held})
    eventually(lambda: len(ending.list("deployments")) == 5, "all are made")

    control_plane.kubectl("delete", "namespace", ending.name, "--wait=false")

    eventually(lambda: not ending.list("agentdeployments,services,deployments"), "all go")
    here.apply(agent())
    here.await_condition("Ready", "False", "RollingOut")
    assert not ending.list("agentdeployments,services,deployments"), "and nothing comes back"
    ending.kubectl("patch", "configmap", "held", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    eventually(lambda: not control_plane.kubectl("get", "namespace", ending.name, "--ignore-not-found"), "it is gone")
    said = [json.loads(line) for line in running.log.splitlines()]
    assert [line for line in said if line.get("namespace") == ending.name and line["level"] != "info"] == []


def test_a_definition_that_changes_under_load_affects_no_agent(here: Namespace) -> None:
    names = [f"agent-{number}" for number in range(10)]
    try:
        for round_number in range(1, 6):
            for name in names:
                here.apply(agent(name, agent={"provider": "echo", "maxTokens": round_number}))
            definition = crd()
            schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            schema["description"] = f"Changed {round_number} times."
            schema["properties"]["spec"]["properties"]["future"] = {"type": "integer", "maximum": round_number}
            _apply(here.cluster, definition)

        def settled() -> bool:
            found = {each["metadata"]["name"]: each["data"] for each in here.list("configmaps")}
            return all(found.get(name, {}).get("MAX_TOKENS") == "5" for name in names)

        eventually(settled, "every agent has its last spec", seconds=60)
        eventually(
            lambda: all(here.condition("Ready", name).get("observedGeneration") == 5 for name in names),
            "and its status reports it",
            seconds=60,
        )
    finally:
        install_definition(here.cluster)


@pytest.mark.parametrize(
    "edited",
    [
        {"readyReplicas": 99, "url": "http://elsewhere", "observedGeneration": 77},
        {"conditions": []},
        None,
    ],
)
def test_a_status_written_by_another_client_is_restored(here: Namespace, edited: dict[str, Any] | None) -> None:
    here.apply(agent(replicas=0))
    here.await_condition("Ready", "True", "ScaledToZero")
    right = _judged(here)

    patch = json.dumps({"status": edited})
    here.kubectl("patch", "agentdeployment", "hello", "--subresource=status", "--type=merge", "-p", patch)

    eventually(lambda: _judged(here) == right, "the status is as it was")


def test_the_longest_name_is_valid_for_every_object(here: Namespace) -> None:
    name = "a" * 53
    here.apply(
        agent(
            name,
            autoscaling={"enabled": True},
            apiKey={"value": "sk-test-key"},
            auth={"enabled": True},
            redis={"url": "redis://redis:6379/0"},
            worker={"enabled": True, "autoscaling": {"enabled": True}},
        )
    )

    here.await_condition("Degraded", "False", "AsExpected", name)
    eventually(lambda: here.list("pods"), "pods are made")
    names = {each["metadata"]["name"] for each in here.list("secrets,deployments")}
    assert {name, f"{name}-client-keys", f"{name}-worker"} <= names


def test_an_agent_deleted_and_recreated_at_once_ends_as_the_last_one(here: Namespace) -> None:
    for number in range(1, 6):
        here.apply(agent(agent={"provider": "echo", "maxTokens": number}, apiKey={"value": f"sk-{number}"}))
        if number < 5:
            here.kubectl("delete", "agentdeployment", "hello", "--wait=false")
    uid = here.get("agentdeployment")["metadata"]["uid"]

    def settled() -> bool:
        owners = {
            (each["kind"], owner["uid"])
            for each in here.list(KINDS)
            for owner in each["metadata"].get("ownerReferences", [])
        }
        return owners == {(kind, uid) for kind in ("ConfigMap", "Service", "Deployment", "Secret")}

    eventually(settled, "all objects are those of the last one", seconds=60)
    assert here.get("configmap")["data"]["MAX_TOKENS"] == "5"
    eventually(lambda: here.condition("Degraded").get("status") == "False", "and nothing is in its way", seconds=60)


def test_a_deleted_secret_is_recreated_while_the_agent_serves(here: Namespace) -> None:
    here.apply(agent(apiKey={"value": "sk-test-key"}))
    eventually(lambda: here.list("pods"), "there is a pod")
    here.serve()
    here.await_condition("Ready", "True", "Serving")
    before = here.get("secret")
    versions = {each["metadata"]["name"]: each["spec"]["template"] for each in here.list("deployments")}

    here.kubectl("delete", "secret", "hello")

    after = here.get("secret")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["data"] == before["data"]
    assert {each["metadata"]["name"]: each["spec"]["template"] for each in here.list("deployments")} == versions


def _judged(here: Namespace) -> dict[str, Any]:
    """Return the agent's status without its times."""
    status: dict[str, Any] = here.get("agentdeployment").get("status", {})
    conditions = [{**each, "lastTransitionTime": ""} for each in status.get("conditions", [])]
    return {**status, "conditions": conditions}


def _apply(cluster: Cluster, document: dict[str, Any]) -> None:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(document))
