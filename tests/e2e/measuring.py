"""The sources of autoscaling metrics: metrics-server, Prometheus, and prometheus-adapter with our rules, or KEDA."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from e2e import keda, prometheus
from e2e.prometheus import MONITORING, Prometheus
from testbed import addons, programs
from testbed.cluster import Cluster
from testbed.programs import FILES, READ, Program


@contextmanager
def measuring(cluster: Cluster, namespace: str, engine: str) -> Iterator[Prometheus]:
    """Run all three in the namespace; autoscalers of this engine get their metrics while the context is active."""
    with ExitStack() as stack:
        found = stack.enter_context(prometheus.running(cluster, namespace, []))
        stack.enter_context(addons.running(cluster, "metrics-server"))
        if engine == "keda":
            stack.enter_context(keda.running(cluster))
        else:
            stack.enter_context(_running(cluster, namespace, _adapter(found.address)))
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
        api="v1beta2.custom.metrics.k8s.io",
        files={"rules.yaml": (MONITORING / "adapter-rules.yaml").read_text()},
        rules=({"apiGroups": [""], "resources": ["pods", "services", "namespaces"], "verbs": READ},),
    )


@contextmanager
def _running(cluster: Cluster, namespace: str, program: Program) -> Iterator[None]:
    """Run the program in the namespace while the context is active."""
    try:
        programs.start(cluster, namespace, program)
        yield
    finally:
        programs.forget(cluster, namespace, program)
