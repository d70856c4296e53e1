"""Writes that the API server refuses, delays or changes: admission webhooks, quotas, foreign objects."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.eventually import eventually
from support.operator import Namespace, OperatorProcess, agent, install_definition, operator, service_account
from support.operator.webhook import Verdict, webhook
from testbed.cluster import Cluster

pytestmark = pytest.mark.timing

# The operator under test lists everything this often, so that faults that only the next list repairs end soon.
RESYNC_SECONDS = 5
# More agents than the operator works on at once.
MANY = 20


@pytest.fixture(scope="module")
def running(control_plane: Cluster) -> Iterator[OperatorProcess]:
    """The operator, on all namespaces, with the documented rights."""
    install_definition(control_plane)
    control_plane.kubectl("create", "namespace", "portside-admission-test")
    try:
        with (
            service_account(control_plane, "portside-admission-test", cluster_wide=True) as kubeconfig,
            operator(kubeconfig, resync_seconds=RESYNC_SECONDS) as process,
        ):
            yield process
    finally:
        control_plane.kubectl("delete", "namespace", "portside-admission-test", "--wait=false")


@pytest.fixture
def here(control_plane: Cluster, namespace: str, running: OperatorProcess) -> Namespace:
    """A fresh namespace, watched by the operator."""
    return Namespace(control_plane, namespace)


@pytest.fixture
def elsewhere(control_plane: Cluster, running: OperatorProcess) -> Iterator[Namespace]:
    """Another fresh namespace, without faults."""
    with control_plane.fresh_namespace() as name:
        yield Namespace(control_plane, name)


def test_a_refusal_is_reported_in_its_own_words_and_waits_for_a_change(
    control_plane: Cluster, namespace: str, tmp_path: Path
) -> None:
    here = Namespace(control_plane, namespace)
    install_definition(control_plane)
    with (
        operator(control_plane.kubeconfig, namespace),
        webhook(here, tmp_path, "services", lambda _: Verdict(refusal="services need a cost center")) as hook,
    ):
        here.apply(agent())
        said = here.await_condition("Degraded", "True", "ApplyRefused")["message"]
        assert "Service hello was refused" in said
        assert "services need a cost center" in said
        assert here.condition("Ready")["status"] == "False"

        # The first change triggers it once; events of another agent do not.
        here.apply(agent(replicas=2))
        eventually(lambda: here.condition("Degraded")["observedGeneration"] == 2, "the change was tried")
        here.apply(agent("other"))
        here.await_condition("Degraded", "True", "ApplyRefused", "other")
        # One attempt for each of the two specs, and another for each event of the objects created beside the Service.
        assert hook.asked_about("hello") <= 6


def test_a_withdrawn_refusal_is_noticed_with_the_next_list(here: Namespace, tmp_path: Path) -> None:
    with webhook(here, tmp_path, "services", lambda _: Verdict(refusal="not today")):
        here.apply(agent())
        here.await_condition("Degraded", "True", "ApplyRefused")

    here.await_condition("Degraded", "False", "AsExpected")
    here.get("service")
    here.get("deployment")


def test_a_webhook_that_hangs_delays_no_other_agent(here: Namespace, elsewhere: Namespace, tmp_path: Path) -> None:
    with webhook(here, tmp_path, "configmaps", lambda _: Verdict(wait=60), timeout_seconds=15) as hook:
        hanging = "\n---\n".join(json.dumps(agent(f"hangs-{number:02}")) for number in range(MANY))
        here.kubectl("apply", "--server-side", "-f", "-", stdin=hanging)
        eventually(lambda: len(hook.asked) >= MANY / 2, "many writes hang")

        elsewhere.apply(agent())
        eventually(lambda: elsewhere.find("deployment"), "an agent elsewhere is made meanwhile", seconds=12)

        said = here.await_condition("Degraded", "True", "ApplyFailing", "hangs-00")["message"]
        assert "judge.test.portside.dev" in said

    eventually(lambda: len(here.list("deployments")) == MANY, "all are made once it answers", seconds=60)


def test_a_webhook_that_overwrites_our_fields_is_not_fought(
    here: Namespace, running: OperatorProcess, tmp_path: Path
) -> None:
    count = 0

    def change(request: dict[str, Any]) -> Verdict:
        nonlocal count
        count += 1
        return Verdict(patch=[{"op": "replace", "path": "/data/LOG_LEVEL", "value": f"LEVEL{count}"}])

    with webhook(here, tmp_path, "configmaps", change, mutating=True) as hook:
        here.apply(agent())
        here.await_condition("Ready", "False", "RollingOut")
        left = "Left an object as it is because another client changed it at once"
        eventually(lambda: left in running.log, "it is logged")
        before = hook.asked_about("hello")
        # Time passes: everything is listed again, and another agent is fully reconciled.
        here.apply(agent("other"))
        here.await_condition("Ready", "False", "RollingOut", "other")
        here.kubectl("delete", "service", "hello")
        here.get("service")

        assert hook.asked_about("hello") == before
        assert before <= 3

        here.apply(agent(agent={"provider": "echo", "systemPrompt": "Be kind."}))
        eventually(lambda: here.get("configmap")["data"].get("SYSTEM_PROMPT") == "Be kind.", "a change is carried out")


def test_a_quota_of_objects_is_reported_and_its_end_is_noticed(here: Namespace) -> None:
    here.kubectl("create", "quota", "none", "--hard=count/services=0")
    eventually(lambda: here.get("resourcequota", "none").get("status", {}).get("used"), "the quota is in force")
    here.apply(agent())
    said = here.await_condition("Degraded", "True", "QuotaExceeded")["message"]
    assert "Service hello was refused" in said

    here.kubectl("delete", "quota", "none")

    here.await_condition("Degraded", "False", "AsExpected")
    here.get("service")


def test_a_quota_of_pods_is_reported_and_its_end_is_noticed(here: Namespace) -> None:
    here.kubectl("create", "quota", "none", "--hard=pods=0")
    eventually(lambda: here.get("resourcequota", "none").get("status", {}).get("used"), "the quota is in force")
    here.apply(agent())
    here.await_condition("Degraded", "True", "QuotaExceeded")

    here.kubectl("delete", "quota", "none")

    eventually(lambda: here.list("pods"), "the pod is made")
    here.await_condition("Degraded", "False", "AsExpected")
    here.serve()
    here.await_condition("Ready", "True", "Serving")


@pytest.mark.parametrize("kind", ["configmap", "service", "deployment"])
def test_a_child_that_gets_another_owner_is_left_to_it(here: Namespace, kind: str) -> None:
    here.apply(agent())
    here.get("deployment")
    here.kubectl("create", "configmap", "theirs")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "controller": True}
    ours = here.get(kind)["metadata"]["ownerReferences"]
    theirs = [{**reference, "uid": here.get("configmap", "theirs")["metadata"]["uid"]}]
    _set_owners(here, kind, theirs)

    here.await_condition("Degraded", "True", "NameConflict")
    here.apply(agent(service={"port": 8080}, agent={"provider": "echo", "maxTokens": 7}, replicas=2))
    here.await_condition("Degraded", "True", "NameConflict")
    assert here.get(kind)["metadata"]["ownerReferences"][0]["name"] == "theirs"
    assert here.get(kind)["metadata"]["generation" if kind == "deployment" else "labels"]

    _set_owners(here, kind, ours)
    here.await_condition("Degraded", "False", "AsExpected")
    eventually(lambda: here.get("service")["spec"]["ports"][0]["port"] == 8080, "the change came through")


def _set_owners(here: Namespace, kind: str, owners: list[dict[str, Any]]) -> None:
    patch = json.dumps({"metadata": {"ownerReferences": owners}})
    here.kubectl("patch", kind, "hello", "--type=merge", "-p", patch)
