"""The process that owns one cluster: it starts the programs in order, watches them, and removes everything at the end.

`python -m testbed.supervisor FOLDER` reads FOLDER/cluster.json. For a node there are two processes. The outer one
creates what must be removed afterwards (a link, cgroups). The inner one is PID 1 of namespaces of its own, so that the
kernel ends every process, mount, address and firewall rule of the cluster with it, for whatever reason it ends.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from testbed import control_plane, node
from testbed.certificates import Authority
from testbed.console import say
from testbed.control_plane import Site
from testbed.errors import TestbedError
from testbed.host import Host
from testbed.ports import free_ports
from testbed.process import DIE_WITH_PARENT, Process

WATCH_SECONDS = 0.5
# The inner process stops six programs, each within process.STOP_SECONDS, most within one second.
INNER_STOP_SECONDS = 60


class Stopped(BaseException):
    """The supervisor was asked to stop (SIGTERM, SIGINT, or the end of its lifeline)."""


def main() -> None:
    """Run the cluster described in the folder on the command line until stopped; exit with 1 if it failed."""
    folder = Path(sys.argv[1])
    inside = sys.argv[2:] == ["--inside"]
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    plan = json.loads((folder / "cluster.json").read_text())
    try:
        if plan["lifeline"] and not inside:
            threading.Thread(target=_follow_lifeline, daemon=True).start()
        if plan["level"] == "node" and not inside:
            _run_namespaces(folder, Host(folder))
        else:
            _run_programs(folder, plan)
    except Stopped:
        say("Stopped.")
    except TestbedError as error:
        _fail(folder, str(error))
    except Exception:  # the process that started the cluster waits for this report
        _fail(folder, traceback.format_exc())


def _stop(number: int, frame: FrameType | None) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)  # once is enough: what follows must not be interrupted
    raise Stopped


def _follow_lifeline() -> None:
    """Stop when standard input ends: the process that held its other end is gone."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _fail(folder: Path, text: str) -> None:
    (folder / "failed").write_text(text)
    sys.exit(1)


def _run_namespaces(folder: Path, host: Host) -> None:
    """Run the inner supervisor in namespaces of its own, with a link to it, and clean up the machine after it."""
    try:
        host.remember_settings()
        host.make_cgroups()
        inner = subprocess.Popen(
            [
                *DIE_WITH_PARENT,
                "unshare",
                *("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *(sys.executable, "-m", "testbed.supervisor", folder, "--inside"),
            ],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            _join_namespaces(folder, host, inner)
            inner.wait()
        finally:
            _end_inner(folder, inner)
    finally:
        host.clean_up()


def _join_namespaces(folder: Path, host: Host, inner: subprocess.Popen[bytes]) -> None:
    """Link this machine to the inner process's network, then pass the inner process its address."""
    pid = _only_child(inner)
    (folder / "node.pid").write_text(str(pid))
    address = host.make_link(pid)
    assert inner.stdin is not None
    inner.stdin.write(f"{address}\n".encode())
    inner.stdin.close()


def _only_child(parent: subprocess.Popen[bytes]) -> int:
    """Return the process that `unshare --fork` started, once it exists."""
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and parent.poll() is None:
        if found := children.read_text().split():
            return int(found[0])
        time.sleep(0.01)
    raise TestbedError("This machine does not allow namespaces (unshare failed): is it a restricted container?")


def _end_inner(folder: Path, inner: subprocess.Popen[bytes]) -> None:
    pid_file = folder / "node.pid"
    if inner.poll() is None and pid_file.exists():
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
    try:
        inner.wait(INNER_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        inner.kill()  # and the kernel kills all that is inside (unshare --kill-child)
        inner.wait()


def _run_programs(folder: Path, plan: dict[str, Any]) -> None:
    """Start every program, mark the cluster as ready, and watch until stopped; then stop all in reverse order."""
    programs = {name: Path(path) for name, path in plan["programs"].items()}
    authority = Authority(folder / "pki")
    with ExitStack() as running:
        processes: list[Process] = []
        started = time.monotonic()
        for process in _start(folder, programs, plan["level"], authority):
            running.callback(process.stop)
            processes.append(process)
            say(f"    {process.name} is up ({time.monotonic() - started:.1f} s)")
            started = time.monotonic()
        (folder / "ready").touch()
        _watch(processes)


def _start(folder: Path, programs: dict[str, Path], level: str, authority: Authority) -> Iterator[Process]:
    if level == "node":
        address = sys.stdin.readline().strip()
        node.prepare_mounts()
        site = Site(folder, programs, address, api_port=6443, etcd_port=2379, etcd_peer_port=2380, advertised=address)
        node.prepare_network(address)
        yield from control_plane.start(site, authority, scheduler=True)
        yield from node.start(site, authority, Host(folder).cgroup)
    else:
        api, etcd, peer = free_ports(3)
        site = Site(folder, programs, "127.0.0.1", api_port=api, etcd_port=etcd, etcd_peer_port=peer)
        yield from control_plane.start(site, authority, scheduler=False)


def _watch(processes: list[Process]) -> None:
    """Report when a program dies, and reap orphans (as PID 1), until stopped."""
    lost: set[str] = set()
    while True:
        time.sleep(WATCH_SECONDS)
        for process in processes:
            if not process.alive and process.name not in lost:
                lost.add(process.name)
                say(f"{process.name} ended unexpectedly. {process.log_tail()}")
        if os.getpid() == 1:
            _reap_orphans({process.pid for process in processes})


def _reap_orphans(ours: set[int]) -> None:
    while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
        if ended.si_pid in ours:
            return  # its own Process object notices
        os.waitpid(ended.si_pid, 0)


if __name__ == "__main__":
    main()
