"""The commands of the README's quick start, run as a user runs them, on their own clusters."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.eventually import eventually
from testbed import host, paths
from testbed.cluster import OwnCluster
from testbed.process import running_for

DEMO_SECONDS = 400
pytestmark = pytest.mark.usefixtures("built_images")


def test_the_demo_ends_with_an_answer_from_a_pod_and_leaves_nothing_behind() -> None:
    name = f"demo-{os.getpid()}"
    demo = _demo(name)
    said, _ = demo.communicate(timeout=DEMO_SECONDS)
    assert demo.returncode == 0, said
    assert "Is anybody in that pod?" in said
    assert '"type":"done"' in said.replace('"type": "done"', '"type":"done"')
    assert "agent_http_requests_total" in said
    assert "total" in said
    assert "hello-agent" in said
    assert "called the tool list_pods with {}: '2 pods run in portside-demo: " in said
    assert _remains(name) == []


def test_an_interrupted_demo_leaves_nothing_behind() -> None:
    name = f"interrupted-{os.getpid()}"
    demo = _demo(name)
    assert demo.stdout is not None
    try:
        for line in demo.stdout:
            if "Installing the operator" in line:
                demo.send_signal(signal.SIGINT)
                break
        said = demo.stdout.read()
        assert demo.wait(DEMO_SECONDS) == 130, said
    finally:
        demo.kill()
        demo.wait()
    assert "Traceback" not in said
    assert _remains(name) == []


def test_on_an_existing_cluster_the_demo_removes_only_what_it_created() -> None:
    cluster = OwnCluster(f"foreign-{os.getpid()}")
    cluster.start("node", lifeline=True)
    try:
        before = _namespaces(cluster)
        demo = _demo(cluster.name, "--cluster=current", KUBECONFIG=str(cluster.kubeconfig))
        said, _ = demo.communicate(timeout=DEMO_SECONDS)
        assert demo.returncode == 0, said
        assert "Is anybody in that pod?" in said
        assert cluster.running
        assert _namespaces(cluster) == before
        assert cluster.get("crd")["items"] == []
    finally:
        cluster.stop()


def test_a_node_whose_supervisor_is_killed_stops_and_is_cleaned_up() -> None:
    cluster = OwnCluster(f"killed-{os.getpid()}")
    cluster.start("node", lifeline=True)
    try:
        machine = json.loads((cluster.folder / host.RECORD).read_text())
        supervisor = json.loads((cluster.folder / "supervisor.json").read_text())["pid"]
        os.kill(supervisor, signal.SIGKILL)
        os.waitpid(supervisor, 0)
        eventually(lambda: not running_for(cluster.folder), "the kernel has ended every program", 30)
        assert not cluster.running
    finally:
        cluster.stop()
    assert _remains(cluster.name) == []
    eventually(
        lambda: _restored(cluster, machine), "the machine has its settings, or another node's record has them", 30
    )


def _restored(cluster: OwnCluster, machine: dict[str, str]) -> bool:
    """Return whether the kernel's settings are those of `machine`, or will be once another cluster ends."""
    records = [each.read_text() for each in cluster.folder.parent.glob(f"*/{host.RECORD}")]
    if records:
        return all(json.loads(record) == machine for record in records)
    return all((host.SYSCTLS / name).read_text() == value for name, value in machine.items())


def test_a_user_who_is_not_root_gets_a_clear_error() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-m", "testbed", "up", "--name", "not-root"],
        env=_environment() | {"PORTSIDE_CACHE": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "needs root" in done.stderr
    assert "Traceback" not in done.stderr


def _namespaces(cluster: OwnCluster) -> set[str]:
    return {each["metadata"]["name"] for each in cluster.get("namespaces")["items"]}


def _demo(name: str, where: str = "--cluster=own", **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "testbed", "demo", where, "--name", name],
        env=_environment() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
    )


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(paths.REPOSITORY / "dev")}


def _remains(name: str) -> list[str]:
    """Return what is left of the cluster of this name: its folder, processes, cgroups, and its link."""
    folder = paths.clusters() / name
    found = [str(folder)] if folder.exists() else []
    found += running_for(folder).values()
    found += [str(cgroup) for cgroup in Path("/sys/fs/cgroup").glob(f"**/portside-{name}")]
    return found
