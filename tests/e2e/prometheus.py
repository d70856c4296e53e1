"""A real Prometheus in the cluster, which discovers its targets from the API server."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import yaml

from support.docs.dashboards import Series
from testbed import programs
from testbed.cluster import Cluster
from testbed.errors import TestbedError
from testbed.paths import REPOSITORY
from testbed.portforward import forwarded
from testbed.programs import FILES, READ, Program

NAME = "prometheus"
PORT = 9090
MONITORING = REPOSITORY / "manifests" / "monitoring"
_RULES = (
    {"apiGroups": [""], "resources": ["pods", "services"], "verbs": READ},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": READ},
)


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus, reachable at `url`, and for pods at `address`."""

    url: str
    address: str

    def query(self, query: str) -> list[dict[str, Any]]:
        """Return the result of an instant query. Raises TestbedError if Prometheus rejects it."""
        return list(self._ask("query", query=query)["result"])

    def since(self, query: str, seconds: float) -> list[Series]:
        """Return the result of a query over the last `seconds`, in 120 steps."""
        now = time.time()
        span = {"start": str(now - seconds), "end": str(now), "step": str(seconds / 120)}
        return [
            Series(
                each["metric"],
                [(at - now) / 60 for at, _ in each["values"]],
                [float(value) for _, value in each["values"]],
            )
            for each in self._ask("query_range", query=query, **span)["result"]
        ]

    def value(self, query: str) -> float:
        """Return the single value of a query; 0 if its result is empty."""
        result = self.query(query)
        return float(result[0]["value"][1]) if result else 0.0

    def traces(self, query: str, seconds: float) -> set[str]:
        """Return the traces to which a query's histograms refer in the last `seconds` (their exemplars)."""
        now = time.time()
        found = self._ask("query_exemplars", query=query, start=str(now - seconds), end=str(now))
        return {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}

    def targets(self) -> list[dict[str, Any]]:
        """Return the targets with their health."""
        return list(self._ask("targets", state="active")["activeTargets"])

    def rules(self) -> list[dict[str, Any]]:
        """Return all rules with the result of their last evaluation."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def _ask(self, what: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{what}", params=parameters, timeout=30).json()
        if answer["status"] != "success":
            raise TestbedError(f"Prometheus refused {parameters}: {answer['error']}")
        return answer["data"]


@contextmanager
def running(cluster: Cluster, namespace: str, monitors: list[dict[str, Any]]) -> Iterator[Prometheus]:
    """Run a Prometheus in `namespace` with our scrape configuration for annotations, our rules, and what
    prometheus-operator makes of these ServiceMonitors. It scrapes each target every second."""
    files = {"prometheus.yml": _configuration(monitors), "alerts.yaml": (MONITORING / "alerts.yaml").read_text()}
    arguments = (
        f"--config.file={FILES}/prometheus.yml",
        "--storage.tsdb.path=/data/tsdb",
        "--enable-feature=exemplar-storage",
    )
    program = Program(NAME, arguments, PORT, "/-/ready", files=files, rules=_RULES)
    try:
        programs.start(cluster, namespace, program)
        with forwarded(cluster, namespace, f"deployment/{NAME}", PORT) as url:
            yield Prometheus(url, f"http://{NAME}.{namespace}.svc")
    finally:
        programs.forget(cluster, namespace, program)


def _configuration(monitors: list[dict[str, Any]]) -> str:
    configuration = yaml.safe_load((MONITORING / "scrape.yaml").read_text())
    configuration["scrape_configs"] += [_job(monitor) for monitor in monitors]
    configuration["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [f"{FILES}/alerts.yaml"]
    return json.dumps(configuration)


def _job(monitor: dict[str, Any]) -> dict[str, Any]:
    """Return the job that prometheus-operator makes of a ServiceMonitor with one endpoint (its promcfg.go)."""
    [endpoint] = monitor["spec"]["endpoints"]
    metadata = monitor["metadata"]
    keep = [
        {
            "action": "keep",
            "source_labels": [f"__meta_kubernetes_service_label_{_sanitized(label)}"],
            "regex": f"({value})",
        }
        for label, value in monitor["spec"]["selector"]["matchLabels"].items()
    ]
    if "targetPort" in endpoint:
        port = {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": endpoint["targetPort"]}
    else:
        port = {"source_labels": ["__meta_kubernetes_endpointslice_port_name"], "regex": endpoint["port"]}
    copies = {
        "namespace": "namespace",
        "service_name": "service",
        "pod_name": "pod",
        "pod_container_name": "container",
    }
    return {
        "job_name": f"serviceMonitor/{metadata['namespace']}/{metadata['name']}/0",
        "kubernetes_sd_configs": [{"role": "endpointslice", "namespaces": {"names": [metadata["namespace"]]}}],
        "metrics_path": endpoint["path"],
        "relabel_configs": [
            *keep,
            {"action": "keep", **port},
            *(
                {"source_labels": [f"__meta_kubernetes_{source}"], "target_label": target}
                for source, target in copies.items()
            ),
        ],
    }


def _sanitized(label: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in label)
