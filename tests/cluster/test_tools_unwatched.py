"""`agent-operator doctor` where no operator runs, or nothing is installed."""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_operator.controller.lease import LEASE_LABEL
from cluster.tools_bed import cause, tool
from support.eventually import eventually
from support.operator import Namespace, agent, install_definition, service_account
from support.operator.proxy import proxy_to
from testbed import cluster as clusters
from testbed.cluster import Cluster


@pytest.fixture
def here(control_plane: Cluster, namespace: str) -> Namespace:
    """A fresh namespace in which no operator runs."""
    install_definition(control_plane)
    return Namespace(control_plane, namespace)


def test_an_agent_that_no_operator_watches_is_reported(here: Namespace) -> None:
    here.apply(agent())

    found = cause(here)

    assert (found["step"], found["reason"]) == ("operator", "OperatorMissing")
    assert "helm upgrade --install agent-operator" in found["remedy"]


@pytest.mark.parametrize(
    ("name", "labels"),
    [("agent-operator-test", {}), ("release-of-some-name", LEASE_LABEL)],
    ids=["by the name that operators before 0.2 used", "by its label"],
)
def test_a_stopped_operator_is_reported_with_the_time_of_its_last_renewal(
    here: Namespace, name: str, labels: dict[str, str]
) -> None:
    here.apply(agent())
    with lease(here, datetime.now(UTC) - timedelta(hours=1), name, labels):
        found = cause(here)

    assert (found["step"], found["reason"]) == ("operator", "OperatorStopped")
    assert f"Lease {here.name}/{name} was last renewed 36" in found["message"]


def test_an_operator_whose_lease_is_deleted_is_not_running(here: Namespace, tmp_path: Path) -> None:
    here.apply(agent())
    reads = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]
    with (
        service_account(here.cluster, here.name, cluster_wide=True, rules=reads) as rights,
        proxy_to(rights, tmp_path) as proxy,
    ):
        with lease(here, datetime.now(UTC) - timedelta(hours=1)), ThreadPoolExecutor() as pool:
            doctor = pool.submit(tool, here, "doctor", "hello", "-o", "json", kubeconfig=proxy.kubeconfig)
            # Doctor reads the Leases again some seconds later; the Lease is deleted in between.
            eventually(lambda: any("leases" in each.path and each.code for each in list(proxy.seen)), "the first read")
            here.kubectl("delete", "lease", "agent-operator-test")
        found = json.loads(doctor.result().stdout)[0]["cause"]

    assert found["reason"] == "OperatorStopped"


def test_an_operator_that_does_not_watch_this_namespace_is_reported(here: Namespace) -> None:
    here.apply(agent())
    with lease(here, datetime.now(UTC) + timedelta(minutes=5)):
        assert cause(here)["reason"] == "NotReconciled"


def test_a_cluster_without_the_definition_is_reported(
    kubeconfig: Path | None, control_plane: Cluster, namespace: str
) -> None:
    if kubeconfig is not None:
        with clusters.provided("control-plane", None) as own, own.fresh_namespace() as fresh:
            _without_definition(Namespace(own, fresh))
    else:
        _without_definition(Namespace(control_plane, namespace))


def _without_definition(here: Namespace) -> None:
    here.kubectl("delete", "crd", "agentdeployments.portside.dev", "--ignore-not-found", "--timeout=60s")

    done = tool(here, "doctor", "hello")
    new = tool(here, "diff", "-f", "-", stdin=json.dumps(agent()))

    assert done.returncode == 1
    assert "Cause (DefinitionMissing): The cluster does not serve agentdeployments.portside.dev." in done.stdout
    assert "What to do: install the definition: agent-operator crd | kubectl apply" in done.stdout
    assert new.returncode == 2
    assert "agentdeployments.portside.dev" in new.stderr
    assert "Traceback" not in new.stderr


@contextmanager
def lease(
    here: Namespace, renewed: datetime, name: str = "agent-operator-test", labels: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Hold a Lease that no operator renews. Doctor reads the Leases of all namespaces, so it is deleted at the end."""
    document: dict[str, Any] = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "labels": {**(labels or {})}},
        "spec": {
            "holderIdentity": "another",
            "leaseDurationSeconds": 15,
            "renewTime": renewed.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        },
    }
    here.kubectl("create", "-f", "-", stdin=json.dumps(document))
    try:
        yield
    finally:
        here.kubectl("delete", "lease", name, "--ignore-not-found")
