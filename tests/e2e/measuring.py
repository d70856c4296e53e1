"""What autoscalers go by, as a cluster has it: metrics-server, Prometheus, and prometheus-adapter with our rules."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from e2e import programs, prometheus
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
def measuring(cluster: Cluster, namespace: str) -> Iterator[Prometheus]:
    """Run all three in the namespace; autoscalers get their values while the body runs."""
    adapter = Program(
        "prometheus-adapter",
        (
            "--cert-dir=/data",
            "--secure-port=6443",
            f"--prometheus-url=http://prometheus.{namespace}.svc",
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
    with ExitStack() as stack:
        found = stack.enter_context(prometheus.running(cluster, namespace, []))
        for program, group, version in (
            (METRICS_SERVER, "metrics.k8s.io", "v1beta1"),
            (adapter, "custom.metrics.k8s.io", "v1beta2"),
        ):
            stack.callback(programs.forget, cluster, namespace, program)
            programs.start(cluster, namespace, program)
            stack.enter_context(_served(cluster, namespace, program.name, group, version))
        yield found


@contextmanager
def _served(cluster: Cluster, namespace: str, service: str, group: str, version: str) -> Iterator[None]:
    """The API server passes requests for this API on to the Service."""
    api: dict[str, Any] = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}"},
        "spec": {
            "group": group,
            "version": version,
            "service": {"name": service, "namespace": namespace},
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }
    cluster.kubectl("apply", "-f-", stdin=json.dumps(api))
    try:
        path = f"/apis/{group}/{version}"
        wait_until(
            lambda: bool(cluster.kubectl("get", "--raw", path, check=False)), f"{path} is served", SERVED_SECONDS
        )
        yield
    finally:
        cluster.kubectl("delete", "apiservice", f"{version}.{group}")
