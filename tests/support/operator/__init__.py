"""Helpers of the operator's tests: the operator as a separate process, its rights, and waiting with a deadline."""

import json
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import yaml

from support.eventually import DEADLINE_SECONDS, eventually
from testbed import paths
from testbed.cluster import Cluster
from testbed.errors import TestbedError
from testbed.ports import free_port

START_SECONDS = 60.0
STOP_SECONDS = 30.0

COMMAND = Path(sys.executable).parent / "agent-operator"


def agent(name: str = "hello", **spec: Any) -> dict[str, Any]:
    """Return a valid AgentDeployment; the keyword arguments replace fields of its spec."""
    return {
        "apiVersion": "portside.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": name},
        "spec": {"agent": {"provider": "echo"}, **spec},
    }


class Namespace:
    """One namespace of the cluster, as a user with kubectl sees it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl in this namespace."""
        return self.cluster.kubectl("--namespace", self.name, *arguments, stdin=stdin, check=check)

    def apply(self, document: dict[str, Any]) -> None:
        """Apply a document as its author."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(document))

    def store(self, text: str, plural: str = "agentdeployments", group: str = "apis/portside.dev/v1alpha1") -> None:
        """Create an object from JSON exactly as written, without parsing by a client."""
        path = f"/{group}/namespaces/{self.name}/{plural}"
        self.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=text)

    def find(self, kind: str, name: str = "hello") -> dict[str, Any] | None:
        """Return the object, or None if it does not exist."""
        return self.cluster.find(kind, name, "--namespace", self.name, "--ignore-not-found")

    def get(self, kind: str, name: str = "hello") -> dict[str, Any]:
        """Wait for the object, and return it."""
        return eventually(lambda: self.find(kind, name), f"{kind} {name} exists")

    def list(self, kind: str) -> list[dict[str, Any]]:
        """Return all objects of the kind."""
        items: list[dict[str, Any]] = self.cluster.get(kind, "--namespace", self.name)["items"]
        return items

    def answers(self, documents: Sequence[dict[str, Any]]) -> dict[str, str]:
        """Return the API server's response to the creation of these agents, by name: empty for each that it accepts.

        Their names are `a0`, `a1`, …
        """
        stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})
        command = ["--namespace", self.name, "create", "--dry-run=server", "--validate=false", "-f", "-"]
        answers = {document["metadata"]["name"]: "" for document in documents}
        try:
            self.cluster.kubectl(*command, stdin=stdin)
            said = ""
        except TestbedError as error:
            said = str(error)
        for line in said.splitlines():
            if match := re.search(r'"(a\d+)" is (forbidden|invalid): (.*)|AgentDeployment "(a\d+)" is invalid', line):
                answers[match[1] or match[4]] = match[0]
        return answers

    def condition(self, kind: str, name: str = "hello") -> dict[str, Any]:
        """Return the agent's condition of that type; empty while it has none."""
        status = (self.find("agentdeployment", name) or {}).get("status", {})
        return next((each for each in status.get("conditions", []) if each["type"] == kind), {})

    def await_condition(self, kind: str, status: str, reason: str, name: str = "hello") -> dict[str, Any]:
        """Wait until the condition of that type has this status and reason, for the current generation."""

        def look() -> dict[str, Any] | None:
            found = self.find("agentdeployment", name) or {}
            conditions = found.get("status", {}).get("conditions", [])
            return next(
                (
                    each
                    for each in conditions
                    if (each["type"], each["status"], each["reason"]) == (kind, status, reason)
                    and each["observedGeneration"] == found["metadata"]["generation"]
                ),
                None,
            )

        try:
            return eventually(look, f"{kind} is {status} because of {reason}")
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{self.kubectl('get', 'agentdeployments,deployments,pods', '-oyaml')}"
            ) from None

    def await_rollout(self, name: str = "hello") -> None:
        """Wait until the Deployment controller has reported all pods of the spec, and writes no more until they run.

        (This tier has no nodes: no pod becomes ready by itself.)
        """

        def settled() -> bool:
            found = self.find("deployment", name) or {"metadata": {"generation": 0}, "spec": {"replicas": 0}}
            status, wanted = found.get("status", {}), found["spec"]["replicas"]
            conditions = {each["type"]: each["status"] for each in status.get("conditions", [])}
            return (
                status.get("observedGeneration") == found["metadata"]["generation"]
                and status.get("replicas") == status.get("updatedReplicas") == wanted
                and status.get("unavailableReplicas", 0) == wanted
                and conditions.keys() >= {"Available", "Progressing"}
            )

        eventually(settled, f"all pods of {name} are reported")

    def serve(self, name: str = "hello") -> None:
        """Act as the kubelet: every pod of the agent is running and ready. (This tier has no nodes.)"""
        selector = f"--selector=app.kubernetes.io/instance={name}"
        for pod in self.cluster.get("pods", selector, "--namespace", self.name)["items"]:
            # It may belong to an old revision, and be deleted by now.
            self.set_pod_status(
                pod["metadata"]["name"], {"phase": "Running", "conditions": [_TRUE_READY]}, missing_ok=True
            )

    def set_pod_status(self, pod: str, status: dict[str, Any], *, missing_ok: bool = False) -> None:
        """Act as the kubelet for one pod."""
        patch = json.dumps({"status": status})
        self.kubectl("patch", "pod", pod, "--subresource=status", "--type=strategic", "-p", patch, check=not missing_ok)


_TRUE_READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}


class OperatorProcess:
    """A running `agent-operator run`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, health_port: int) -> None:
        self._process = process
        self._log = log
        self._said = ""
        self.health_port = health_port

    @property
    def log(self) -> str:
        """Return its output so far, or until it ended."""
        if self._log.exists():
            self._said = self._log.read_text()
        return self._said

    def await_start(self) -> None:
        """Wait until it watches."""

        def look() -> bool:
            assert self._process.poll() is None, f"the operator ended: {self.log}"
            return '"Started"' in self.log

        eventually(look, "the operator started", START_SECONDS)

    def await_end(self) -> int:
        """Wait until it ends by itself, and return its exit code."""
        return self._process.wait(DEADLINE_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def answer(self, path: str) -> tuple[int, str]:
        """Return status and text of its HTTP server's response."""
        response = httpx.get(f"http://127.0.0.1:{self.health_port}{path}", timeout=10)
        return response.status_code, response.text

    def metric(self, series: str) -> float:
        """Return the value of a series, such as `name{label="value"}`."""
        lines = self.answer("/metrics")[1].splitlines()
        return float(next(line for line in lines if line.startswith(f"{series} ")).rpartition(" ")[2])

    def peak_memory(self) -> int:
        """Return its peak resident memory in bytes (proc(5): VmHWM)."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024

    def kill(self) -> None:
        """Kill it at once, whatever it is doing."""
        self._process.kill()

    def stop(self) -> int:
        """Signal it to shut down, and return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_SECONDS)


@contextmanager
def operator(
    kubeconfig: Path,
    *namespaces: str,
    resync_seconds: float | None = None,
    more: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[OperatorProcess]:
    """Run the operator, with the rights of `kubeconfig`, on these namespaces or on all, with `more` arguments and
    environment variables."""
    port = free_port()
    arguments: Sequence[str] = [*(f"--namespace={name}" for name in namespaces), *more]
    if resync_seconds is not None:
        arguments = [*arguments, f"--resync-seconds={resync_seconds}"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "operator.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [COMMAND, "run", f"--health-port={port}", *arguments],
                env={"PATH": "/usr/bin:/bin", "KUBECONFIG": str(kubeconfig), "HOME": folder, **(environment or {})},
                stdout=output,
                stderr=output,
            )
        running = OperatorProcess(process, log, port)
        try:
            running.await_start()
            yield running
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            print(running.log)  # noqa: T201  shown by pytest when a test fails


def install_definition(cluster: Cluster) -> None:
    """Install the CRD as printed by the command."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=_definition())
    for plural in ("agentdeployments", "agentclasses"):
        cluster.await_definition(f"{plural}.portside.dev")


@cache
def _definition() -> str:
    return subprocess.run([COMMAND, "crd"], capture_output=True, text=True, check=True).stdout


def documented_rules(*, of_leases: bool = False, of_classes: bool = False) -> list[dict[str, Any]]:
    """Return rules of docs/reference/operator-rbac.md as in a Role: of its agents, its own namespace or classes."""
    page = (paths.REPOSITORY / "docs" / "reference" / "operator-rbac.md").read_text()
    served, _, rest = page.partition("\n## In the whole cluster\n")
    everywhere, _, own = rest.partition("\n## In its own namespace\n")
    text = own if of_leases else everywhere if of_classes else served
    rows = [line.split("|")[1:4] for line in text.splitlines() if line.startswith("| ")][1:]
    rules = [[re.findall(r"`([^`]+)`", cell) for cell in row] for row in rows]
    return [{"apiGroups": groups or [""], "resources": resources, "verbs": verbs} for groups, resources, verbs in rules]


@contextmanager
def service_account(
    cluster: Cluster, namespace: str, *, cluster_wide: bool, rules: list[dict[str, Any]] | None = None
) -> Iterator[Path]:
    """Yield a kubeconfig of a new service account that has exactly these rules, for the duration of the body.

    Without `rules` they are the documented ones.
    """
    documented = documented_rules() + (documented_rules(of_classes=True) if cluster_wide else [])
    scope, name = ("Cluster", f"portside-test-{namespace}") if cluster_wide else ("", "portside-test")
    where = {"name": name} if cluster_wide else {"name": name, "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": "agent-operator", "namespace": namespace}
    documents = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agent-operator", "namespace": namespace}},
        {"apiVersion": f"{rbac}/v1", "kind": f"{scope}Role", "metadata": where, "rules": rules or documented},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": f"{scope}RoleBinding",
            "metadata": where,
            "roleRef": {"apiGroup": rbac, "kind": f"{scope}Role", "name": name},
            "subjects": [subject],
        },
    ]
    listed = yaml.safe_dump_all(documents)
    cluster.kubectl("apply", "-f", "-", stdin=listed)
    try:
        token = cluster.kubectl("create", "token", "agent-operator", "--namespace", namespace).strip()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "kubeconfig"
            path.write_text(yaml.safe_dump(kubeconfig_for(cluster.kubeconfig, token)))
            yield path
    finally:
        # A test may have deleted some of them.
        cluster.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=listed)


@contextmanager
def rights_everywhere(cluster: Cluster, namespace: str) -> Iterator[Path]:
    """Yield a kubeconfig with the documented rights on the whole cluster, where the definition is installed.

    Its service account is in `namespace`, which exists for the duration of the body.
    """
    install_definition(cluster)
    cluster.kubectl("create", "namespace", namespace)
    try:
        with service_account(cluster, namespace, cluster_wide=True) as kubeconfig:
            yield kubeconfig
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def kubeconfig_for(admin: Path, token: str) -> dict[str, Any]:
    """Return a kubeconfig for the same cluster, for the bearer of the token."""
    config: dict[str, Any] = yaml.safe_load(admin.read_text())
    current = next(each for each in config["contexts"] if each["name"] == config["current-context"])
    current["context"] = {"cluster": current["context"]["cluster"], "user": "bearer"}
    return {**config, "contexts": [current], "users": [{"name": "bearer", "user": {"token": token}}]}
