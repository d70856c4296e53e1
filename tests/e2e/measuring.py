"""What autoscalers go by: metrics-server, Prometheus, and prometheus-adapter with our rules, or else KEDA."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from e2e import keda, programs, prometheus
from e2e.agents import wait_until
from e2e.programs import FILES, Program
from e2e.prometheus import MONITORING, Prometheus
from testbed.cluster import Cluster

READ = ("get", "list", "watch")
METRICS_SERVER = Program(
    "metrics-server",
    (
        "--cert-dir=/data",
        "--secure-port=10250",
        "--kubelet-preferred-address-types=InternalIP",
        "--kubelet-use-node-status-port",
        # A value of a pod takes two readings; by default one is made each minute.
        "--metric-resolution=15s",
        # The kubelet's certificate is of its own making.
        "--kubelet-insecure-tls",
    ),
    10250,
    "/livez",
    "HTTPS",
    rules=(
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": READ},
    ),
)
SERVED_SECONDS = 60


@contextmanager
def measuring(cluster: Cluster, namespace: str, engine: str) -> Iterator[Prometheus]:
    """Run all three in the namespace; autoscalers of this engine get their values while the body runs."""
    with ExitStack() as stack:
        found = stack.enter_context(prometheus.running(cluster, namespace, []))
        stack.enter_context(_serving(cluster, namespace, METRICS_SERVER, "metrics.k8s.io", "v1beta1"))
        if engine == "keda":
            stack.enter_context(keda.running(cluster))
        else:
            adapter = _adapter(found.address)
            stack.enter_context(_serving(cluster, namespace, adapter, "custom.metrics.k8s.io", "v1beta2"))
        yield found


def _adapter(address: str) -> Program:
    return Program(
        "prometheus-adapter",
        (
            "--cert-dir=/data",
            "--secure-port=6443",
            f"--prometheus-url={address}",
            f"--config={FILES}/rules.yaml",
            "--metrics-relist-interval=2s",
            "--metrics-max-age=1m",
        ),
        6443,
        "/readyz",
        "HTTPS",
        files={"rules.yaml": (MONITORING / "adapter-rules.yaml").read_text()},
        rules=({"apiGroups": [""], "resources": ["pods", "services", "namespaces"], "verbs": READ},),
    )


@contextmanager
def _serving(cluster: Cluster, namespace: str, program: Program, group: str, version: str) -> Iterator[None]:
    """Run the program; the API server passes requests for this API on to it."""
    api: dict[str, Any] = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}"},
        "spec": {
            "group": group,
            "version": version,
            "service": {"name": program.name, "namespace": namespace},
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }
    try:
        programs.start(cluster, namespace, program)
        cluster.kubectl("apply", "-f-", stdin=json.dumps(api))
        path = f"/apis/{group}/{version}"
        wait_until(
            lambda: bool(cluster.kubectl("get", "--raw", path, check=False)), f"{path} is served", SERVED_SECONDS
        )
        yield
    finally:
        cluster.kubectl("delete", "apiservice", f"{version}.{group}", "--ignore-not-found")
        programs.forget(cluster, namespace, program)
