"""A cluster to test against: one of our own (started here), or any other that a kubeconfig names."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

from testbed import binaries, paths, system, together
from testbed.api import Api, NotServedError
from testbed.console import say, step
from testbed.errors import TestbedError
from testbed.host import Host
from testbed.locks import exclusive

Level = Literal["control-plane", "node"]
START_SECONDS = 300
STOP_SECONDS = 90
COMMAND_SECONDS = 300
DEFINITION_SECONDS = 30
# The commands that a node needs from Debian's packages.
NODE_COMMANDS = ("containerd", "runc", "/usr/lib/cni/ptp", "iptables", "conntrack", "socat", "ip", "nsenter")
KIND_CONFIG = Path(__file__).resolve().parent / "kind.yaml"


class Cluster:
    """A Kubernetes API that `kubeconfig` connects to, with the kubectl and helm that the test bed provides."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._api: Api | None = None

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl and return its standard output.

        Raises TestbedError with kubectl's error output if it fails and `check` is set.
        """
        return self._run("kubectl", *arguments, stdin=stdin, check=check)

    def helm(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run helm in the same way."""
        return self._run("helm", *arguments, stdin=stdin, check=check)

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return the object, or the list, that `kubectl get` with these arguments finds. Raises TestbedError."""
        answer = self.find(*arguments)
        if answer is None:
            raise TestbedError(f"`kubectl get {' '.join(arguments)}` found nothing.")
        return answer

    def find(self, *arguments: str) -> dict[str, Any] | None:
        """Return the same as `get`, but None when the object is missing under `--ignore-not-found`.

        Reads in this process where possible, because tests poll. kubectl handles the rest, and reports the errors.
        """
        try:
            if self._api is None:
                self._api = Api(self.kubeconfig)
            return self._api.get(*arguments)
        except NotServedError:
            text = self.kubectl("get", *arguments, "-ojson")
        answer: dict[str, Any] | None = json.loads(text) if text.strip() else None
        return answer

    def await_definition(self, name: str) -> None:
        """Wait until the CustomResourceDefinition `name` is served. Raises TestbedError after DEFINITION_SECONDS.

        `kubectl wait` fails on a new definition whose conditions are still null.
        """
        deadline = time.monotonic() + DEFINITION_SECONDS
        while not self._established(name):
            if time.monotonic() > deadline:
                raise TestbedError(f"The definition {name} is not served after {DEFINITION_SECONDS} s.")
            time.sleep(0.1)

    def _established(self, name: str) -> bool:
        conditions = self.get("crd", name).get("status", {}).get("conditions") or []
        return any((each["type"], each["status"]) == ("Established", "True") for each in conditions)

    @contextmanager
    def fresh_namespace(self) -> Iterator[str]:
        """Create a namespace with the restricted Pod Security Standard; delete it after the body, without waiting."""
        name = f"test-{uuid.uuid4().hex[:8]}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        self.kubectl("create", "-f-", stdin=json.dumps(namespace))
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")

    def load_image(self, archive: Path) -> None:
        """Make the image in `archive` available to the nodes; for a cluster that we do not know, its owner has to."""
        say(f"    assuming that the nodes of {self.kubeconfig} have {archive.stem}, or can pull it")

    @property
    def environment(self) -> dict[str, str]:
        """The environment for programs that use this cluster."""
        return os.environ | {"KUBECONFIG": str(self.kubeconfig)}

    def _run(self, program: str, *arguments: str, stdin: str | None, check: bool) -> str:
        command = [str(binaries.provide(program)[program]), *arguments]
        done = subprocess.run(
            command,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if check and done.returncode != 0:
            output = done.stderr.strip() or done.stdout.strip()
            raise TestbedError(f"`{program} {' '.join(arguments)}` ended with code {done.returncode}: {output}")
        return done.stdout


class OwnCluster(Cluster):
    """A cluster that runs on this machine, with its state in `folder`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = paths.clusters() / name
        super().__init__(self.folder / "kubeconfig")

    @property
    def running(self) -> bool:
        """Whether the cluster's supervisor is alive."""
        started = _started(self._supervisor_pid)
        return started is not None and bool(started == self._recorded.get("started"))

    @property
    def level(self) -> Level:
        """The level that the cluster was started with."""
        level: Level = self._plan["level"]
        return level

    @property
    def audit_log(self) -> Path:
        """The API server's log of writes (audit.k8s.io/v1 events, one JSON object per line)."""
        return self.folder / "logs" / "audit.log"

    def start(self, level: Level, *, lifeline: bool, dns: bool = True) -> None:
        """Start the cluster and wait until it is ready; with `lifeline`, it ends when this process does.

        Without `dns`, names of Services do not resolve in its pods, and CoreDNS need not be built.

        Raises TestbedError with the end of the log of the program that did not come up; nothing is left running then.
        """
        if level == "node":
            system.need_root("A cluster with a node")
            system.need(*NODE_COMMANDS)
        names: tuple[str, ...] = binaries.NODE if level == "node" else binaries.CONTROL_PLANE
        if not dns:
            names = tuple(name for name in names if name != "coredns")
        programs = {name: str(path) for name, path in binaries.provide(*names).items()}
        with step(f"Starting the cluster {self.name} ({level})"):
            supervisor = self._spawn({"level": level, "lifeline": lifeline, "programs": programs})
            try:
                self._await_ready(supervisor)
            except BaseException:
                self.stop()
                raise

    def stop(self, *, at_once: bool = False) -> None:
        """Stop the cluster and remove its folder; do nothing if it does not exist.

        With `at_once`, the kernel kills a node with everything that runs on it. Otherwise its programs stop one by one,
        and wait for the pods. The supervisor notices, and cleans up the machine as usual.
        """
        if self.running:
            node = self.folder / "node.pid"
            if at_once and node.exists():
                os.kill(int(node.read_text()), signal.SIGKILL)
            else:
                os.kill(self._supervisor_pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while self.running:
                if time.monotonic() > deadline:
                    os.kill(self._supervisor_pid, signal.SIGKILL)
                _reap(self._supervisor_pid)
                time.sleep(0.05)
        with _changing_clusters():  # another process that starts a cluster removes those that are not running
            self.remove()

    def remove(self) -> None:
        """Remove the folder of a cluster that is not running, and what it left on the machine.

        The caller must hold the lock of the clusters' folder.
        """
        if not self.folder.exists():
            return
        host = Host(self.folder)
        if host.is_changed:
            host.clean_up()
        shutil.rmtree(self.folder)

    def load_image(self, archive: Path) -> None:
        """Load the image into the node's containerd."""
        pid = (self.folder / "node.pid").read_text()
        command: list[str | Path] = [
            "nsenter",
            f"--target={pid}",
            "--mount",
            "--pid",
            "--net",
            sys.executable,
            "-m",
            "testbed.node",
            archive,
        ]
        done = subprocess.run(command, env=_python_environment(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise TestbedError(done.stderr.strip())

    @property
    def _plan(self) -> dict[str, Any]:
        return _read_json(self.folder / "cluster.json")

    @property
    def _recorded(self) -> dict[str, Any]:
        return _read_json(self.folder / "supervisor.json")

    @property
    def _supervisor_pid(self) -> int:
        return int(self._recorded.get("pid", 0))

    def _spawn(self, plan: dict[str, Any]) -> subprocess.Popen[bytes]:
        with _changing_clusters():
            _sweep()
            if self.folder.exists():
                raise TestbedError(f"The cluster {self.name} is already running. Stop it first: make cluster-down")
            (self.folder / "logs").mkdir(parents=True)
            (self.folder / "cluster.json").write_text(json.dumps(plan))
            with self._log.open("wb") as log:
                supervisor = subprocess.Popen(
                    [sys.executable, "-m", "testbed.supervisor", self.folder],
                    env=_python_environment(),
                    stdin=subprocess.PIPE if plan["lifeline"] else subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            record = {"pid": supervisor.pid, "started": _started(supervisor.pid)}
            (self.folder / "supervisor.json").write_text(json.dumps(record))
        self._lifeline = supervisor.stdin  # held open for as long as this object lives
        return supervisor

    @property
    def _log(self) -> Path:
        return self.folder / "logs" / "supervisor.log"

    def _await_ready(self, supervisor: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        with self._log.open() as log:
            while not (self.folder / "ready").exists():
                together.check()
                for line in log:
                    say(line.rstrip())
                if supervisor.poll() is not None:
                    raise TestbedError(self._why_it_failed())
                if time.monotonic() > deadline:
                    raise TestbedError(f"The cluster was not ready after {START_SECONDS} s. See {self._log}.")
                time.sleep(0.05)
            for line in log:
                say(line.rstrip())

    def _why_it_failed(self) -> str:
        failed = self.folder / "failed"
        return failed.read_text() if failed.exists() else f"The supervisor ended:\n{self._log.read_text()}"


class KindCluster(Cluster):
    """A cluster that kind made, in Docker. Its methods raise TestbedError when kind or Docker fails."""

    def __init__(self, kubeconfig: Path, name: str) -> None:
        super().__init__(kubeconfig)
        self.name = name

    def start(self) -> None:
        """Create the cluster from the node image KIND_NODE or kind's own, or reuse the existing one of this name."""
        if self.name not in self._kind("get", "clusters").split():
            with step(f"Creating the kind cluster {self.name}"):
                node = ["--image", image] if (image := os.environ.get("KIND_NODE")) else []
                self._kind("create", "cluster", "--name", self.name, "--config", KIND_CONFIG, "--wait=180s", *node)
        self._kind("export", "kubeconfig", "--name", self.name)

    def stop(self) -> None:
        """Delete the cluster."""
        self._kind("delete", "cluster", "--name", self.name)

    def load_image(self, archive: Path) -> None:
        """Load the image into the cluster's nodes."""
        self._kind("load", "image-archive", archive, "--name", self.name)

    def _kind(self, *arguments: str | Path) -> str:
        return self._run("kind", *map(str, arguments), stdin=None, check=True)


def named_by(kubeconfig: Path) -> Cluster:
    """Return the cluster of the current context of `kubeconfig`: ours, one of kind's (`kind-<cluster>`), or another."""
    for own in own_clusters():
        if own.kubeconfig == kubeconfig.resolve():
            return own
    cluster = Cluster(kubeconfig)
    context = cluster.kubectl("config", "current-context").strip()
    return KindCluster(kubeconfig, context.removeprefix("kind-")) if context.startswith("kind-") else cluster


def own_clusters() -> list[OwnCluster]:
    """Return every cluster of ours that has a state folder, running or not."""
    folder = paths.clusters()
    return [OwnCluster(each.name) for each in sorted(folder.iterdir()) if each.is_dir()] if folder.exists() else []


@contextmanager
def provided(level: Level, kubeconfig: Path | None, name: str | None = None) -> Iterator[Cluster]:
    """Yield the cluster that `kubeconfig` names, or one of our own that ends with the body (or with this process).

    A process with several clusters of one level at once distinguishes them by `name`.
    """
    if kubeconfig is not None:
        yield named_by(kubeconfig)
        return
    cluster = OwnCluster(f"{name or level}-{os.getpid()}")
    cluster.start(level, lifeline=True)
    try:
        yield cluster
    finally:
        cluster.stop(at_once=True)


def _changing_clusters() -> AbstractContextManager[None]:
    """Hold the lock of the folder of all clusters: one process at a time adds or removes a cluster."""
    return exclusive(paths.clusters() / ".lock", "starts or removes a cluster")


def _sweep() -> None:
    """Remove what killed runs left behind."""
    for cluster in own_clusters():
        if not cluster.running:
            say(f"    removing what is left of the cluster {cluster.name}, which was killed")
            cluster.remove()


def _started(pid: int) -> int | None:
    """Return the start of process `pid` in clock ticks since boot (proc(5), field 22 of stat); None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # not our child: `up` in another shell started it


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content


def _python_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(paths.REPOSITORY / "dev"), "PYTHONUNBUFFERED": "1"}
