"""`agent-operator doctor` where no operator runs, or nothing is installed."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster.tools_bed import cause, tool
from support.operator import Namespace, agent, install_definition
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


def test_a_stopped_operator_is_reported_with_the_time_of_its_last_renewal(here: Namespace) -> None:
    here.apply(agent())
    hold_lease(here, datetime.now(UTC) - timedelta(hours=1))

    found = cause(here)

    assert (found["step"], found["reason"]) == ("operator", "OperatorStopped")
    assert f"Lease {here.name}/agent-operator-test was last renewed 36" in found["message"]


def test_an_operator_that_does_not_watch_this_namespace_is_reported(here: Namespace) -> None:
    here.apply(agent())
    hold_lease(here, datetime.now(UTC) + timedelta(minutes=5))

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


def hold_lease(here: Namespace, renewed: datetime) -> None:
    lease: dict[str, Any] = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "agent-operator-test"},
        "spec": {
            "holderIdentity": "somebody",
            "leaseDurationSeconds": 15,
            "renewTime": renewed.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        },
    }
    here.kubectl("create", "-f", "-", stdin=json.dumps(lease))
