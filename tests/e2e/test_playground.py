"""The cluster of `make cluster-up`; test_docs.py runs the documents' commands on it."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from support.eventually import eventually
from testbed import addons, paths, redis, workloads
from testbed.addons import MODEL_API
from testbed.cluster import Cluster, OwnCluster
from testbed.errors import TestbedError

BACK_SECONDS = 120
VALUE_SECONDS = 90


def test_its_environment_has_kubectl_helm_and_the_plugin(playground_cluster: Cluster) -> None:
    if not isinstance(playground_cluster, OwnCluster):
        pytest.skip("a cluster that was given has no environment of ours")
    env = [sys.executable, "-m", "testbed", "env", "--name", playground_cluster.name]
    environment = {**os.environ, "PYTHONPATH": str(paths.REPOSITORY / "dev"), "PATH": os.defpath}
    exports = subprocess.run(env, env=environment, capture_output=True, text=True, check=True).stdout
    script = f'{exports}\nkubectl agent doctor; helm list -A; kubectl __complete agent doctor ""; type -P python'
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": os.defpath, "HOME": os.environ["HOME"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "unknown command" not in done.stderr
    assert "agent-operator" in done.stdout
    assert "ShellCompDirective" in done.stderr
    assert str(paths.REPOSITORY / ".venv") not in done.stdout, "the environment's own Python stays off PATH"


def test_cpu_autoscalers_get_metrics(playground_cluster: Cluster) -> None:
    usage = partial(playground_cluster.kubectl, "top", "pods", "-n", MODEL_API, "--no-headers", check=False)
    eventually(lambda: "model-api" in usage(), "metrics-server has values of the pods", VALUE_SECONDS)


def test_its_addons_survive_the_deletion_of_their_pods(playground_cluster: Cluster) -> None:
    places = {MODEL_API: MODEL_API, redis.NAME: redis.NAME, "metrics-server": "metrics-server"}
    for place in places:
        playground_cluster.kubectl("delete", "pods", "--all", "-n", place, "--wait=false")
    for addon in addons.named(*places):
        eventually(_is_ready(playground_cluster, addon.name), f"{addon.name} is back", BACK_SECONDS)


def test_a_second_run_replaces_nothing_and_adds_what_is_missing(playground_cluster: Cluster) -> None:
    before = _pod(playground_cluster, MODEL_API)
    playground_cluster.kubectl("delete", "namespace", redis.NAME)
    addons.install(playground_cluster, addons.chosen())
    assert _pod(playground_cluster, MODEL_API) == before
    assert _is_ready(playground_cluster, redis.NAME)()


def test_an_addon_that_does_not_start_is_reported_with_its_pods_and_how_to_disable_it(
    playground_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workloads, "READY_SECONDS", 5)
    [working] = addons.named(redis.NAME)
    place = "broken-addon"
    container = {"image": "portside.dev/no-such-image:1"}
    broken = replace(
        working,
        namespace=place,
        put=lambda cluster: workloads.apply(
            cluster,
            place,
            [workloads.namespace(place), workloads.deployment("broken", container, volumes=[])],
        ),
        await_ready=lambda cluster: workloads.await_ready(cluster, place, "broken"),
    )
    try:
        with pytest.raises(TestbedError) as error:
            addons.install(playground_cluster, [broken])
    finally:
        playground_cluster.kubectl("delete", "namespace", place, "--wait=false")
    assert "The add-on redis did not come up" in str(error.value)
    assert "no-such-image" in str(error.value)
    assert "make cluster-up WITHOUT=redis" in str(error.value)


def _pod(cluster: Cluster, place: str) -> list[str]:
    return [pod["metadata"]["uid"] for pod in cluster.get("pods", "-n", place)["items"]]


def _is_ready(cluster: Cluster, name: str) -> Callable[[], bool]:
    """Return a check that the Deployment `name` in the namespace `name` has exactly one pod, and that it is ready."""

    def ready() -> bool:
        pods = cluster.get("pods", "-n", name)["items"]
        status = cluster.get("deployment", name, "-n", name).get("status", {})
        return len(pods) == 1 and status.get("readyReplicas") == 1

    return ready
