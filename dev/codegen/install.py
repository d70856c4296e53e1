"""The install and its overlays as plain YAML for kustomize (`manifests`), rendered from the operator's chart."""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from testbed import binaries
from testbed.errors import TestbedError

CHART = "helm/agent-operator"
RELEASE = "agent-operator"
NAMESPACE = "portside-system"
DEFINITION = "CustomResourceDefinition"
# The chart values that the overlay `monitoring` adds.
MONITORING: dict[str, Any] = {
    "monitoring": {each: {"enabled": True} for each in ("serviceMonitor", "prometheusRule", "dashboards")}
}
# The chart values that the overlay `policies` adds.
POLICIES: dict[str, Any] = {"policies": {"enabled": True}}
HEAD = "# Generated from helm/agent-operator by `make generate`: do not edit.\n"


def files(root: Path) -> dict[str, str]:
    """Return every generated file: its path below the repository's root, mapped to its content."""
    chart = root / CHART
    objects = rendered(chart, {})
    definitions = {each["spec"]["names"]["plural"]: each for each in objects if each["kind"] == DEFINITION}
    rest = [_namespace(), *(each for each in objects if each["kind"] != DEFINITION)]
    with_monitoring, with_policies = rendered(chart, MONITORING), rendered(chart, POLICIES)
    there = [_identity(each) for each in objects]
    return {
        **{f"manifests/install/{plural}.yaml": _text([each]) for plural, each in definitions.items()},
        "manifests/install/operator.yaml": _text(rest),
        "manifests/overlays/monitoring/monitoring.yaml": _text(
            [each for each in with_monitoring if _identity(each) not in there]
        ),
        "manifests/overlays/policies/policies.yaml": _text(
            [each for each in with_policies if _identity(each) not in there]
        ),
        "manifests/overlays/policies/deployment.yaml": _text(
            [each for each in with_policies if each["kind"] == "Deployment"]
        ),
        "manifests/monitoring/alerts.yaml": _rules(chart),
    }


def rendered(chart: Path, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects that the chart renders with `values`, without fields that only a Helm release has.

    Raises TestbedError when the chart does not render.
    """
    helm = str(binaries.provide("helm")["helm"])
    command = [helm, "template", RELEASE, str(chart), "--namespace", NAMESPACE, "-f-"]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TestbedError(f"The operator's chart does not render: {done.stderr.strip()}")
    return [_plain(each) for each in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if each]


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """Return the object without fields that only a Helm release has."""
    labels = document["metadata"]["labels"]
    del labels["helm.sh/chart"]
    labels["app.kubernetes.io/managed-by"] = "kustomize"
    document["metadata"].get("annotations", {}).pop("helm.sh/resource-policy", None)
    if not document["metadata"].get("annotations", True):
        del document["metadata"]["annotations"]
    return document


def _identity(document: dict[str, Any]) -> tuple[str, str]:
    return document["kind"], document["metadata"]["name"]


def _namespace() -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def _rules(chart: Path) -> str:
    """Return the rules in Prometheus' own format (`rule_files`), for clusters without prometheus-operator."""
    values = yaml.safe_load((chart / "values.yaml").read_text())
    text = (chart / "files" / "alerts.yaml").read_text()
    runbooks = values["monitoring"]["prometheusRule"]["runbooks"]
    for word, stands_for in {"RUNBOOKS": runbooks, "OPERATOR_NAMESPACE": NAMESPACE, "OPERATOR_NAME": RELEASE}.items():
        text = text.replace(word, stands_for)
    return HEAD + text


def _text(objects: list[dict[str, Any]]) -> str:
    return HEAD + yaml.safe_dump_all(objects, sort_keys=False, width=120)
