"""The API server of the measurements: a control plane of the test bed, and its log of writes."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench import processes
from support.operator import install_definition
from testbed import cluster as clusters
from testbed.cluster import OwnCluster
from testbed.process import running_for


@dataclass(frozen=True)
class Write:
    """One write that the API server answered: its start and end (seconds of the epoch), and its client."""

    started: float
    done: float
    by: str
    verb: str
    resource: str


class AuditLog:
    """The API server's log of writes. Each read continues where the last one ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open(encoding="utf-8")
        self._half = ""

    def read(self) -> list[Write]:
        """Return the writes since the last read. Follows the API server to the new file that it starts after 100 MB."""
        text = self._file.read()
        if os.fstat(self._file.fileno()).st_ino != self._path.stat().st_ino:
            self._file.close()
            self._file = self._path.open(encoding="utf-8")
            text += self._file.read()
        *lines, self._half = (self._half + text).split("\n")
        return [_write(line) for line in lines]

    def by_operator(self) -> list[Write]:
        """Return the writes of the operator: by our own connection, or kopf's."""
        return [write for write in self.read() if write.by.startswith(("agent-operator", "kopf", "python", "Python"))]


def _write(line: str) -> Write:
    event = json.loads(line)
    return Write(
        datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp(),
        datetime.fromisoformat(event["stageTimestamp"]).timestamp(),
        event.get("userAgent", ""),
        event["verb"],
        event.get("objectRef", {}).get("resource", ""),
    )


@dataclass(frozen=True)
class Plane:
    """A running control plane."""

    cluster: OwnCluster
    controllers: bool

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.cluster.kubeconfig

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the API server and of etcd so far."""
        return sum(processes.cpu_seconds(pid) for pid in _programs(self.cluster, "kube-apiserver", "etcd"))

    def audit_log(self) -> AuditLog:
        """Return the log of writes from now on."""
        log = AuditLog(self.cluster.audit_log)
        log.read()
        return log


@contextmanager
def control_plane(*, controllers: bool) -> Iterator[Plane]:
    """Yield a new etcd and API server with our definition; without `controllers`, nothing else uses them.

    kube-controller-manager is then stopped (SIGSTOP) for as long as the body runs: it would make ReplicaSets and pods
    of each Deployment, and the cost of an agent could not be distinguished from theirs.
    """
    with clusters.provided("control-plane", None) as cluster:
        assert isinstance(cluster, OwnCluster)
        install_definition(cluster)
        managers = _programs(cluster, "kube-controller-manager")
        if not controllers:
            _send(managers, signal.SIGSTOP)
        try:
            yield Plane(cluster, controllers)
        finally:
            _send(managers, signal.SIGCONT)


def _programs(cluster: OwnCluster, *names: str) -> list[int]:
    """Return the process ids of the cluster's programs with these names."""
    running = running_for(cluster.folder)
    return [pid for pid, command in running.items() if Path(command.split("\0")[0]).name in names]


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)
