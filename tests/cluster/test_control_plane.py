"""The test bed's control plane: its start, its commands, and its end with the process that started it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.eventually import eventually
from testbed import paths
from testbed.cluster import Cluster, OwnCluster
from testbed.errors import TestbedError
from testbed.process import running_for


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep this test's clusters where no other starting process cleans up; the programs are the usual ones."""
    for kept in ("bin", "go"):
        (tmp_path / kept).symlink_to(paths.cache() / kept)
    monkeypatch.setenv("PORTSIDE_CACHE", str(tmp_path))


HOLDER = """
import sys, time
from testbed.cluster import OwnCluster
cluster = OwnCluster(sys.argv[1])
cluster.start("control-plane", lifeline=True)
print("up", flush=True)
time.sleep(600)
"""


def test_the_api_server_is_ready_and_its_controllers_work(control_plane: Cluster, namespace: str) -> None:
    assert control_plane.kubectl("get", "--raw=/readyz") == "ok"
    accounts = eventually(
        lambda: control_plane.get("serviceaccounts", "-n", namespace)["items"], "the namespace has its account"
    )
    assert [account["metadata"]["name"] for account in accounts] == ["default"]


def test_a_failed_command_has_the_output_of_kubectl(control_plane: Cluster) -> None:
    with pytest.raises(TestbedError, match='namespaces "not-there" not found'):
        control_plane.kubectl("get", "namespace", "not-there")


@pytest.mark.usefixtures("own_folder")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_cluster_ends_with_the_process_that_started_it(how: signal.Signals) -> None:
    name = f"orphan-{how.name.lower()}-{os.getpid()}"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, name],
        env=os.environ | {"PYTHONPATH": str(paths.REPOSITORY / "dev")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "up\n"
        programs = set(running_for(paths.clusters() / name))
        assert len(programs) == 4  # the supervisor and its three programs
        holder.send_signal(how)
        holder.wait()
        _wait_until_gone(programs)
    finally:
        holder.kill()
        holder.wait()
        OwnCluster(name).stop()
    assert not (paths.clusters() / name).exists()


@pytest.mark.usefixtures("own_folder")
def test_a_killed_supervisor_ends_its_programs_and_the_next_start_cleans_up() -> None:
    name = f"stale-{os.getpid()}"
    stale = OwnCluster(name)
    stale.start("control-plane", lifeline=True)
    programs = set(running_for(stale.folder))
    supervisor = json.loads((stale.folder / "supervisor.json").read_text())["pid"]
    os.kill(supervisor, signal.SIGKILL)
    os.waitpid(supervisor, 0)
    _wait_until_gone(programs)
    assert stale.folder.exists()
    again = OwnCluster(name)
    again.start("control-plane", lifeline=True)
    try:
        assert again.kubectl("get", "--raw=/readyz") == "ok"
    finally:
        again.stop()
    assert not again.folder.exists()


def test_a_program_that_fails_to_start_is_reported_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "kube-apiserver"
    broken.write_text("#!/bin/sh\necho no such luck\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    cluster = OwnCluster(f"broken-{os.getpid()}")
    with pytest.raises(TestbedError, match=r"kube-apiserver ended with code 3\.(.|\n)*no such luck"):
        cluster.start("control-plane", lifeline=True)
    assert not cluster.folder.exists()


def _wait_until_gone(programs: set[int], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while left := [pid for pid in programs if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.1)
