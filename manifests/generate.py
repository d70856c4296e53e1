"""Write what comes from the operator's chart or goes into it: the install and its overlays as plain YAML for kustomize
(`manifests`), rendered from the chart, which is the one source, and the dashboards (`helm/agent-operator/files`).

`python manifests/generate.py` writes the files; with `--check` it writes nothing, names what is stale, and exits 1.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dashboards
import yaml

from testbed import binaries
from testbed.errors import TestbedError

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "helm" / "agent-operator"
RELEASE = "agent-operator"
NAMESPACE = "portside-system"
DEFINITION = "CustomResourceDefinition"
# What the overlay `monitoring` adds, as values of the chart.
MONITORING: dict[str, Any] = {
    "monitoring": {each: {"enabled": True} for each in ("serviceMonitor", "prometheusRule", "dashboards")}
}
# What the overlay `policies` adds.
POLICIES: dict[str, Any] = {"policies": {"enabled": True}}
HEAD = "# Generated from helm/agent-operator by `make generate`: do not edit.\n"


def files() -> dict[str, str]:
    """Every generated file: its path below the repository's root, and its content."""
    objects = rendered({})
    definition = [each for each in objects if each["kind"] == DEFINITION]
    rest = [_namespace(), *(each for each in objects if each["kind"] != DEFINITION)]
    with_monitoring, with_policies = rendered(MONITORING), rendered(POLICIES)
    there = [_identity(each) for each in objects]
    return {
        "manifests/install/agentdeployments.yaml": _text(definition),
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
        "manifests/monitoring/alerts.yaml": _rules(),
    }


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    """What the chart makes with `values`, without what only a Helm release has. Raises TestbedError."""
    helm = str(binaries.provide("helm")["helm"])
    command = [helm, "template", RELEASE, str(CHART), "--namespace", NAMESPACE, "-f-"]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TestbedError(f"The operator's chart does not render: {done.stderr.strip()}")
    return [_plain(each) for each in yaml.safe_load_all(done.stdout) if each]


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """The object without what only a Helm release has."""
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


def _rules() -> str:
    """The rules as Prometheus itself reads them (`rule_files`), where there is no prometheus-operator."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    text = (CHART / "files" / "alerts.yaml").read_text()
    runbooks = values["monitoring"]["prometheusRule"]["runbooks"]
    for word, stands_for in {"RUNBOOKS": runbooks, "OPERATOR_NAMESPACE": NAMESPACE, "OPERATOR_NAME": RELEASE}.items():
        text = text.replace(word, stands_for)
    return HEAD + text


def _text(objects: list[dict[str, Any]]) -> str:
    return HEAD + yaml.safe_dump_all(objects, sort_keys=False, width=120)


def main() -> None:
    """Write or check the files."""
    check = "--check" in sys.argv[1:]
    folder = "helm/agent-operator/files/dashboards"
    try:
        # The dashboards first: the chart has them as files.
        _bring_up_to_date({f"{folder}/{name}": text for name, text in dashboards.files().items()}, check=check)
        _bring_up_to_date(files(), check=check)
    except TestbedError as error:
        sys.exit(str(error))


def _bring_up_to_date(wanted: dict[str, str], *, check: bool) -> None:
    stale = {name: text for name, text in wanted.items() if _current(ROOT / name) != text}
    if stale and check:
        raise TestbedError(f"Stale: {', '.join(stale)}. Run `make generate`, and commit what it writes.")
    for name, text in stale.items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(text)
        sys.stdout.write(f"Wrote: {name}\n")


def _current(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


if __name__ == "__main__":
    main()
