"""A second API server on the etcd of a cluster, which a test can kill and restart."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from testbed.cluster import Cluster, OwnCluster
from testbed.ports import free_port
from testbed.process import running_for

READY_SECONDS = 60.0


class SecondServer:
    """An API server with the command of the first, on another port."""

    def __init__(self, cluster: OwnCluster, folder: Path) -> None:
        commands = [command.rstrip("\0").split("\0") for command in running_for(cluster.folder).values()]
        first = next(command for command in commands if Path(command[0]).name == "kube-apiserver")
        self._etcd = _value(first, "--etcd-servers")
        port = free_port()
        own = {"--secure-port": str(port), "--audit-log-path": str(folder / "audit.log")}
        self._command = [f"{name}={own[name]}" if (name := each.partition("=")[0]) in own else each for each in first]
        self._log = folder / "kube-apiserver.log"
        self._process: subprocess.Popen[bytes] | None = None
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        for each in config["clusters"]:
            each["cluster"]["server"] = f"https://127.0.0.1:{port}"
        self.kubeconfig = folder / "second.kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        cluster, deadline = Cluster(self.kubeconfig), time.monotonic() + READY_SECONDS
        while cluster.kubectl("get", "--raw=/readyz", check=False) != "ok":
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            assert time.monotonic() < deadline, f"not ready: {self._log.read_text()[-2000:]}"
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill it if it is running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget_history(self) -> None:
        """Compact etcd: no watch can resume from an earlier revision (etcd: "History compaction"; 410 Gone)."""
        status = httpx.post(f"{self._etcd}/v3/maintenance/status", json={}).raise_for_status().json()
        revision = status["header"]["revision"]
        httpx.post(f"{self._etcd}/v3/kv/compaction", json={"revision": revision, "physical": True}).raise_for_status()


@contextmanager
def second_server(cluster: OwnCluster, folder: Path) -> Iterator[SecondServer]:
    """Yield a running second API server that ends with the body."""
    server = SecondServer(cluster, folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _value(command: list[str], flag: str) -> str:
    return next(each.partition("=")[2] for each in command if each.startswith(f"{flag}="))
