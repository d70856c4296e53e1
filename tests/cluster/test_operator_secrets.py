"""Secrets: generated client keys, and missing Secrets that are named without the right to read them."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.eventually import eventually
from support.operator import Namespace, OperatorProcess, agent, install_definition, operator, service_account
from testbed import cluster as clusters
from testbed.cluster import Cluster

KEYS = "hello-client-keys"
ROTATE = "portside.dev/rotate-client-keys"


@pytest.fixture(scope="module")
def control_plane(kubeconfig: Path | None, control_plane: Cluster) -> Iterator[Cluster]:
    """A separate control plane even when the tests run on a given cluster: a real kubelet would contradict them."""
    if kubeconfig is None:
        yield control_plane
    else:
        with clusters.provided("control-plane", None) as cluster:
            yield cluster


@pytest.fixture(scope="module")
def running(control_plane: Cluster) -> Iterator[OperatorProcess]:
    """The operator, on all namespaces, with the documented rights, which do not include reading Secrets."""
    install_definition(control_plane)
    control_plane.kubectl("create", "namespace", "portside-secrets-test")
    try:
        with (
            service_account(control_plane, "portside-secrets-test", cluster_wide=True) as kubeconfig,
            operator(kubeconfig) as process,
        ):
            yield process
    finally:
        control_plane.kubectl("delete", "namespace", "portside-secrets-test", "--wait=false")


@pytest.fixture
def here(control_plane: Cluster, namespace: str, running: OperatorProcess) -> Namespace:
    """A fresh namespace, watched by the operator."""
    return Namespace(control_plane, namespace)


def test_client_keys_are_generated_once_and_kept(here: Namespace) -> None:
    here.apply(agent(auth={"enabled": True}))
    (made,) = _keys(here)
    assert len(made) >= 43

    here.apply(agent(auth={"enabled": True}, service={"port": 8080}))
    eventually(lambda: here.get("service")["spec"]["ports"][0]["port"] == 8080, "the change came through")

    assert _keys(here) == [made]


def test_keys_are_rotated_on_request_and_the_old_one_is_valid_until_the_next_rotation(here: Namespace) -> None:
    here.apply(agent(auth={"enabled": True}))
    (first,) = _keys(here)

    here.kubectl("annotate", "agentdeployment", "hello", f"{ROTATE}=monday")
    second, kept = eventually(lambda: _keys(here) if len(_keys(here)) == 2 else None, "there is a second key")
    assert kept == first

    here.kubectl("annotate", "--overwrite", "agentdeployment", "hello", f"{ROTATE}=tuesday")
    eventually(lambda: first not in _keys(here), "the first key is gone")
    assert _keys(here)[1] == second


def test_keys_are_recreated_when_their_secret_is_deleted_and_removed_when_not_desired(
    here: Namespace,
) -> None:
    here.apply(agent(auth={"enabled": True}))
    _keys(here)
    here.kubectl("delete", "secret", KEYS)
    _keys(here)

    here.apply(agent(auth={"enabled": True, "existingSecret": "mine"}))

    eventually(lambda: here.find("secret", KEYS) is None, "our Secret is gone")


def test_a_restart_keeps_the_keys(control_plane: Cluster, namespace: str, running: OperatorProcess) -> None:
    here = Namespace(control_plane, namespace)
    here.apply(agent(auth={"enabled": True}))
    before = _keys(here)

    with operator(control_plane.kubeconfig, namespace):
        here.apply(agent(auth={"enabled": True}, service={"port": 8081}))
        eventually(lambda: here.get("service")["spec"]["ports"][0]["port"] == 8081, "the change came through")

    assert _keys(here) == before


def test_keys_appear_nowhere(here: Namespace, running: OperatorProcess) -> None:
    here.apply(agent(auth={"enabled": True}))
    (made,) = _keys(here)
    here.await_condition("Ready", "False", "RollingOut")

    seen = json.dumps([here.list("agentdeployments,events,deployments,configmaps,services")])
    assert made not in seen
    assert made not in running.log


@pytest.mark.parametrize(
    ("said", "reason", "words"),
    [
        ('secret "nope" not found', "SecretMissing", "Secret nope does not exist, and the pods wait for it"),
        ("references non-existent secret key: anthropic", "SecretKeyMissing", "Secret nope has no key anthropic"),
    ],
)
def test_what_pods_wait_for_is_reported_from_the_kubelets_events(
    here: Namespace, said: str, reason: str, words: str
) -> None:
    key = {"secretName": "nope", "secretKey": "anthropic"}
    here.apply(agent(agent={"provider": "anthropic"}, apiKey=key))
    (pod,) = eventually(lambda: here.list("pods"), "there is a pod")
    _play_the_kubelet(here, pod, f'MountVolume.SetUp failed for volume "secrets" : {said}')

    assert words in here.await_condition("Degraded", "True", reason)["message"]
    here.await_condition("Ready", "False", reason)

    here.serve()
    here.await_condition("Ready", "True", "Serving")


def _keys(here: Namespace) -> list[str]:
    secret = here.get("secret", KEYS)
    return base64.b64decode(secret["data"]["API_KEYS"]).decode().split(",")


def _play_the_kubelet(here: Namespace, pod: dict[str, Any], message: str) -> None:
    """Report on a pod what the kubelet reports when its volume of Secrets cannot be mounted."""
    waiting = {"waiting": {"reason": "ContainerCreating"}}
    state = {"name": "agent", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
    here.set_pod_status(pod["metadata"]["name"], {"containerStatuses": [state]})
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "hello."},
        "involvedObject": {
            "kind": "Pod",
            "name": pod["metadata"]["name"],
            "namespace": here.name,
            "uid": pod["metadata"]["uid"],
        },
        "reason": "FailedMount",
        "message": message,
        "type": "Warning",
        "source": {"component": "kubelet"},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    here.kubectl("create", "-f", "-", stdin=json.dumps(event))
