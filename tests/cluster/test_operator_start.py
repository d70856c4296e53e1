"""How `agent-operator run` starts, fails to start, and shuts down."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support.eventually import eventually
from support.operator import COMMAND, Namespace, agent, install_definition, operator, service_account
from testbed.cluster import Cluster
from testbed.errors import TestbedError
from testbed.ports import free_port

SECONDS = 60


def run(kubeconfig: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the operator until it ends by itself."""
    return subprocess.run(
        [COMMAND, "run", f"--health-port={free_port()}", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one error of a failed start; it may have logged before that the cluster serves optional kinds."""
    assert done.returncode == 1, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    (message,) = [line["message"] for line in lines if line["level"] == "error"]
    assert isinstance(message, str)
    return message


@pytest.fixture
def without_definition(control_plane: Cluster) -> Iterator[Cluster]:
    """The cluster while it lacks our definition."""
    control_plane.kubectl("delete", "crd", "agentdeployments.portside.dev", "--ignore-not-found", "--timeout=60s")
    yield control_plane
    install_definition(control_plane)


def test_a_missing_kubeconfig_is_reported_in_one_error(tmp_path: Path) -> None:
    assert "set KUBECONFIG to a file that names a cluster" in said(run(tmp_path / "none"))


def test_an_invalid_kubeconfig_is_reported_in_one_error(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("hello: [")

    assert "set KUBECONFIG to a file that names a cluster" in said(run(tmp_path / "config"))


def test_an_unreachable_cluster_is_reported_in_one_error(control_plane: Cluster, tmp_path: Path) -> None:
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    for each in config["clusters"]:
        each["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
    (tmp_path / "config").write_text(yaml.safe_dump(config))

    message = said(run(tmp_path / "config"))

    assert "did not answer" in message
    assert "Check that the cluster is up" in message


def test_a_missing_definition_is_reported_in_one_error(without_definition: Cluster) -> None:
    assert "agent-operator crd | kubectl apply --server-side -f -" in said(run(without_definition.kubeconfig))


def await_look_at_definitions(cluster: Cluster, kubeconfig: Path, namespace: str) -> None:
    """Wait until the admission plugin that checks owner references has just read all definitions.

    It reads them again every 30 s, on its own schedule; a definition created for this wait shows when.
    """
    names = {"plural": "heartbeats", "singular": "heartbeat", "kind": "Heartbeat"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "heartbeats.beat.test"},
        "spec": {"group": "beat.test", "scope": "Namespaced", "names": names, "versions": [version]},
    }
    owner = {"apiVersion": "beat.test/v1", "kind": "Heartbeat", "name": "x", "uid": "x", "blockOwnerDeletion": True}
    owned = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owned", "ownerReferences": [owner]}}

    def unknown() -> bool:
        apply = ["apply", "--server-side", "--dry-run=server", "-n", namespace, "-f-"]
        try:
            Cluster(kubeconfig).kubectl(*apply, stdin=json.dumps(owned))
        except TestbedError as error:
            return "cannot find RESTMapping" in str(error)
        return False

    assert unknown()
    cluster.kubectl("apply", "-f-", stdin=json.dumps(definition))
    try:
        eventually(lambda: not unknown(), "the plugin knows the definition", seconds=75)
    finally:
        cluster.kubectl("delete", "crd", "heartbeats.beat.test", "--wait=false")


def test_an_agent_applied_right_after_its_definition_gets_its_objects(
    without_definition: Cluster, namespace: str
) -> None:
    here = Namespace(without_definition, namespace)
    with service_account(without_definition, namespace, cluster_wide=True) as kubeconfig:
        await_look_at_definitions(without_definition, kubeconfig, namespace)
        install_definition(without_definition)
        with operator(kubeconfig) as process:
            here.apply(agent())
            message = here.await_condition("Ready", "False", "ApplyFailing")["message"]
            eventually(lambda: here.kubectl("get", "deployments", "-oname"), "the Deployment is made", seconds=120)
            assert "cannot find RESTMapping" in message

    assert "Traceback" not in process.log


def test_the_operator_exits_with_an_error_when_the_definition_is_deleted(
    control_plane: Cluster, namespace: str
) -> None:
    install_definition(control_plane)
    try:
        with operator(control_plane.kubeconfig, namespace) as process:
            control_plane.kubectl("delete", "crd", "agentdeployments.portside.dev", "--timeout=60s")
            code = process.await_end()
    finally:
        install_definition(control_plane)

    assert code == 1
    assert "once it is installed again, restart the operator" in json.loads(process.log.splitlines()[-1])["message"]
    assert "Traceback" not in process.log


def test_a_missing_permission_is_reported_in_one_error(control_plane: Cluster, namespace: str) -> None:
    install_definition(control_plane)
    with service_account(control_plane, namespace, cluster_wide=False) as kubeconfig:
        message = said(run(kubeconfig))

    assert "lacks a permission" in message
    assert "--namespace" in message


def test_a_port_in_use_is_reported_in_one_error(control_plane: Cluster) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:  # noqa: S104  where the operator listens
        port = taken.getsockname()[1]
        message = said(run(control_plane.kubeconfig, f"--health-port={port}"))

    assert f"Cannot listen on port {port}" in message


def test_the_operator_shuts_down_promptly_and_in_order_on_a_signal(control_plane: Cluster, namespace: str) -> None:
    install_definition(control_plane)
    with operator(control_plane.kubeconfig, namespace) as process:
        code = process.stop()

    assert code == 0
    assert "Traceback" not in process.log


def test_logs_are_one_json_object_per_line(control_plane: Cluster, namespace: str) -> None:
    install_definition(control_plane)
    with operator(control_plane.kubeconfig, namespace) as process:
        here = Namespace(control_plane, namespace)
        here.apply(agent())
        here.get("deployment")
        process.stop()

    lines = [json.loads(line) for line in process.log.splitlines()]
    assert {"message", "level", "timestamp"} <= set.intersection(*(set(line) for line in lines))


def test_leader_election_outside_a_pod_needs_a_namespace_for_its_lease(control_plane: Cluster) -> None:
    done = run(control_plane.kubeconfig, "--leader-elect")

    assert done.returncode == 2
    assert "--lease-namespace" in done.stderr


def test_help_names_the_environment_variables() -> None:
    text = subprocess.run([COMMAND, "run", "--help"], capture_output=True, text=True, check=True).stdout

    for name in (
        "NAMESPACE",
        "SELECTOR",
        "POLICY",
        "LEADER_ELECT",
        "LEASE_NAME",
        "HEALTH_PORT",
        "LOG_FORMAT",
        "LOG_LEVEL",
    ):
        assert f"AGENT_OPERATOR_{name}" in text
