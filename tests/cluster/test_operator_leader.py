"""Leader election: another operator takes over when the leader ends, and a replaced leader stops working."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_operator.controller.lease import LEASE_LABEL
from support.eventually import eventually
from support.operator import (
    Namespace,
    OperatorProcess,
    agent,
    documented_rules,
    install_definition,
    operator,
    service_account,
)
from support.operator.line import line_to
from testbed.cluster import Cluster, OwnCluster

pytestmark = pytest.mark.timing

LEASE = "portside-test"
# A dead leader's Lease is valid for another 15 s, and is checked every two.
TAKEOVER_SECONDS = 60.0


@pytest.fixture
def here(control_plane: Cluster, namespace: str) -> Namespace:
    """A namespace of a cluster with our definition."""
    install_definition(control_plane)
    return Namespace(control_plane, namespace)


@contextmanager
def elected(here: Namespace, kubeconfig: Path | None = None, pod: str | None = None) -> Iterator[OperatorProcess]:
    """Run an operator of this namespace with leader election, which takes itself to run in the pod of that name."""
    more = ["--leader-elect", f"--lease-namespace={here.name}", f"--lease-name={LEASE}"]
    environment = {}
    if pod is not None:
        uid = here.get("pod", pod)["metadata"]["uid"]
        environment = {"POD_NAMESPACE": here.name, "POD_NAME": pod, "POD_UID": uid}
    with operator(kubeconfig or here.cluster.kubeconfig, here.name, more=more, environment=environment) as process:
        yield process


def leads(process: OperatorProcess) -> bool:
    return process.metric("agent_operator_is_leader") == 1


def lead_seconds(process: OperatorProcess) -> float:
    """Return the seconds until the operator led."""
    began = time.monotonic()
    eventually(lambda: leads(process), "the operator leads", TAKEOVER_SECONDS)
    return time.monotonic() - began


def ended_with(process: OperatorProcess) -> str:
    """Return the last line of an operator that ended by itself."""
    assert process.await_end() == 1
    assert "Traceback" not in process.log
    message: str = json.loads(process.log.splitlines()[-1])["message"]
    return message


def rewrite_lease(here: Namespace, holder: str, **record: Any) -> None:
    spec = {"holderIdentity": holder, **record}
    here.kubectl("patch", "lease", LEASE, "--type=merge", "-p", json.dumps({"spec": spec}))


def test_of_two_operators_one_works_and_the_other_is_ready(here: Namespace) -> None:
    with elected(here) as first:
        lead_seconds(first)
        with elected(here) as second:
            eventually(lambda: "Waited to lead" in second.log, "the second operator waits")
            here.apply(agent())
            here.get("deployment")

            assert [leads(first), leads(second)] == [True, False]
            assert second.answer("/readyz")[0] == second.answer("/healthz")[0] == 200
            assert "Applied" in first.log
            assert "Applied" not in second.log


def test_the_lease_has_the_label_by_which_doctor_finds_it(here: Namespace) -> None:
    with elected(here) as leader:
        lead_seconds(leader)

        assert here.get("lease", LEASE)["metadata"]["labels"] == LEASE_LABEL


def test_a_killed_leader_is_replaced_when_its_lease_expires(here: Namespace) -> None:
    with elected(here) as leader, elected(here) as other:
        if eventually(lambda: [each for each in (leader, other) if leads(each)], "one of them leads") == [other]:
            leader, other = other, leader  # noqa: PLW2901  the first to lead
        leader.signal(signal.SIGKILL)
        here.apply(agent())
        seconds = lead_seconds(other)
        here.get("deployment")

    print(f"A killed leader was followed after {seconds:.1f} s")  # noqa: T201  a measurement


def test_a_leader_that_shuts_down_is_replaced_at_once(here: Namespace) -> None:
    with elected(here) as first:
        lead_seconds(first)
        with elected(here) as second:
            eventually(lambda: "Waited to lead" in second.log, "the second operator waits")
            assert first.stop() == 0
            # Before the Lease would expire, after 15 s.
            eventually(lambda: leads(second), "the second leads", 12)
            here.apply(agent())
            here.get("deployment")


def make_pod(here: Namespace, name: str) -> None:
    """Create the pod that an operator takes as its own. No node runs it here, so its deletion takes no time."""
    context = {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "operator", "image": "none", "securityContext": context}
    here.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}})


def owners(here: Namespace) -> list[str]:
    """Return the names of the Lease's owners."""
    lease = here.find("lease", LEASE) or {"metadata": {}}
    return [each["name"] for each in lease["metadata"].get("ownerReferences", [])]


def test_a_lease_that_could_not_be_released_is_deleted_with_the_holders_pod(here: Namespace) -> None:
    for name in ("old", "new"):
        make_pod(here, name)
    rules = [*documented_rules(), *documented_rules(of_leases=True)]
    with service_account(here.cluster, here.name, cluster_wide=False, rules=rules) as kubeconfig:
        with elected(here, kubeconfig, pod="old") as process:
            lead_seconds(process)
            assert owners(here) == ["old"]
            # As `helm uninstall` does: the rights are deleted while the operator shuts down.
            here.kubectl("delete", "rolebinding", "portside-test")
            assert process.stop() == 0
            assert "Could not release the Lease" in process.log
        assert _holder(here)
        here.kubectl("delete", "pod", "old", "--force", "--grace-period=0")

        eventually(lambda: here.find("lease", LEASE) is None, "the Lease is gone")
    with elected(here, pod="new") as process:
        lead_seconds(process)
        assert owners(here) == ["new"]


def test_the_lease_of_a_running_leader_outlives_the_pod_of_its_predecessor(here: Namespace) -> None:
    make_pod(here, "old")
    with elected(here, pod="old") as first:
        lead_seconds(first)
        # The next leader runs outside a pod, so no pod owns the Lease.
        with elected(here) as second:
            eventually(lambda: "Waited to lead" in second.log, "the second operator waits")
            assert first.stop() == 0
            eventually(lambda: leads(second), "the second leads")
            assert owners(here) == []
            uid = here.get("lease", LEASE)["metadata"]["uid"]
            here.kubectl("delete", "pod", "old", "--force", "--grace-period=0")
            renewed = here.get("lease", LEASE)["spec"]["renewTime"]
            eventually(lambda: here.get("lease", LEASE)["spec"]["renewTime"] != renewed, "it is renewed")
            assert here.get("lease", LEASE)["metadata"]["uid"] == uid


def test_a_leader_that_may_not_own_the_lease_leads(here: Namespace) -> None:
    make_pod(here, "one")
    # As OpenShift does where a Role lacks `delete`: it rejects writes with an owner, and accepts those without.
    refuse_owned_leases(here)
    try:
        with elected(here, pod="one") as process:
            lead_seconds(process)
            assert owners(here) == []
            assert "Lacked permission to own the Lease" in process.log
    finally:
        here.kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", f"no-owner-{here.name}")


def refuse_owned_leases(here: Namespace) -> None:
    """Make the API server reject Leases of the namespace that have an owner."""
    name = f"no-owner-{here.name}"
    rule = {
        "apiGroups": ["coordination.k8s.io"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["leases"],
    }
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "!has(object.metadata.ownerReferences)", "reason": "Forbidden"}],
        },
    }
    selector = {"matchLabels": {"kubernetes.io/metadata.name": here.name}}
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": selector},
        },
    }
    here.apply(policy)
    here.apply(binding)
    probe = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": "probe",
            "namespace": here.name,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "none", "uid": "none"}],
        },
    }

    def refused() -> bool:
        arguments = ("create", "--dry-run=server", "-f", "-")
        return not here.kubectl(*arguments, stdin=json.dumps(probe), check=False)

    eventually(refused, "the policy is in force")


def _holder(here: Namespace) -> str:
    holder: str = here.get("lease", LEASE)["spec"]["holderIdentity"]
    return holder


def test_a_leader_whose_lease_is_overwritten_exits(here: Namespace) -> None:
    with elected(here) as process:
        lead_seconds(process)
        rewrite_lease(here, "another-operator")

        assert f"The Lease {here.name}/{LEASE} was taken by another-operator" in ended_with(process)
    # It did not release a Lease that it no longer held.
    assert _holder(here) == "another-operator"


def test_a_leader_suspended_until_after_a_takeover_writes_nothing(here: Namespace) -> None:
    rules = [*documented_rules(), *documented_rules(of_leases=True)]
    with (
        service_account(here.cluster, here.name, cluster_wide=False, rules=rules) as kubeconfig,
        elected(here, kubeconfig) as first,
    ):
        lead_seconds(first)
        here.apply(agent())
        here.get("deployment")
        with elected(here) as second:
            first.signal(signal.SIGSTOP)
            here.apply(agent(replicas=2))
            here.kubectl("delete", "configmap,service", "--selector=app.kubernetes.io/instance=hello")
            lead_seconds(second)
            eventually(lambda: here.get("deployment")["spec"]["replicas"] == 2, "the second works")
            before = _writes_of(here, "agent-operator")
            here.apply(agent(replicas=3))
            first.signal(signal.SIGCONT)

            assert LEASE in ended_with(first)
            assert _writes_of(here, "agent-operator") == before


def _writes_of(here: Namespace, account: str) -> int:
    """Return the number of writes of the service account in the API server's audit log, where it can be read."""
    if not isinstance(here.cluster, OwnCluster):
        return 0
    user = f"system:serviceaccount:{here.name}:{account}"
    events = [json.loads(line) for line in here.cluster.audit_log.read_text().splitlines()]
    writes = len([event for event in events if event["user"]["username"] == user])
    assert writes, "the audit log knows of the account's writes"
    return writes


def test_a_leader_that_cannot_renew_exits(here: Namespace, tmp_path: Path) -> None:
    with line_to(here.cluster.kubeconfig, tmp_path) as (line, kubeconfig), elected(here, kubeconfig) as process:
        lead_seconds(process)
        line.freeze()

        assert "could not be renewed for 10 s" in ended_with(process)


def test_an_operator_that_is_stopped_while_nothing_answers_its_first_scan_ends_without_a_traceback(
    here: Namespace, tmp_path: Path
) -> None:
    with (
        line_to(here.cluster.kubeconfig, tmp_path) as (line, kubeconfig),
        operator(kubeconfig, here.name) as process,
    ):
        line.freeze()

        process.stop()
        assert "Traceback" not in process.log


def test_the_holders_wall_clock_does_not_count(here: Namespace) -> None:
    ahead = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() + 300))
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": LEASE},
        "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 15, "acquireTime": ahead, "renewTime": ahead},
    }
    here.apply(lease)
    with elected(here) as process:
        assert lead_seconds(process) > 5  # it had to wait for the duration, but not for five minutes


def test_a_deleted_lease_is_recreated_by_the_leader(here: Namespace) -> None:
    with elected(here) as process:
        lead_seconds(process)
        holder = _holder(here)
        here.kubectl("delete", "lease", LEASE)

        assert eventually(lambda: here.find("lease", LEASE), "the Lease is back")["spec"]["holderIdentity"] == holder
        assert leads(process)


def test_roles_in_one_namespace_are_enough_to_lead_and_work_there(here: Namespace) -> None:
    rules = [*documented_rules(), *documented_rules(of_leases=True)]
    with (
        service_account(here.cluster, here.name, cluster_wide=False, rules=rules) as kubeconfig,
        elected(here, kubeconfig) as process,
    ):
        lead_seconds(process)
        here.apply(agent())
        here.get("deployment")
        here.get("lease", LEASE)
        assert process.stop() == 0


def test_missing_rights_on_the_lease_are_reported_in_one_sentence(here: Namespace) -> None:
    with (
        service_account(here.cluster, here.name, cluster_wide=False) as kubeconfig,
        elected(here, kubeconfig) as process,
    ):
        assert "Grant get, create and update of leases" in ended_with(process)
