"""Write `manifests/install`: the operator as plain YAML for kustomize, rendered from its chart, the one source.

`python manifests/generate.py` writes the files; with `--check` it writes nothing, names what is stale, and exits 1.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from testbed import binaries
from testbed.errors import TestbedError

MANIFESTS = Path(__file__).resolve().parent
CHART = MANIFESTS.parent / "helm" / "agent-operator"
RELEASE = "agent-operator"
NAMESPACE = "portside-system"
HEAD = "# Generated from helm/agent-operator by `make generate`: do not edit.\n"


def files() -> dict[str, str]:
    """Every generated file: its path below `manifests`, and its content."""
    objects = [_plain(each) for each in _rendered()]
    definition = [each for each in objects if each["kind"] == "CustomResourceDefinition"]
    rest = [_namespace(), *(each for each in objects if each["kind"] != "CustomResourceDefinition")]
    return {"install/agentdeployments.yaml": _text(definition), "install/operator.yaml": _text(rest)}


def _rendered() -> list[dict[str, Any]]:
    helm = str(binaries.provide("helm")["helm"])
    command = [helm, "template", RELEASE, str(CHART), "--namespace", NAMESPACE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TestbedError(f"The operator's chart does not render: {done.stderr.strip()}")
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """The object without what only a Helm release has."""
    labels = document["metadata"]["labels"]
    del labels["helm.sh/chart"]
    labels["app.kubernetes.io/managed-by"] = "kustomize"
    document["metadata"].get("annotations", {}).pop("helm.sh/resource-policy", None)
    if not document["metadata"].get("annotations", True):
        del document["metadata"]["annotations"]
    return document


def _namespace() -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def _text(objects: list[dict[str, Any]]) -> str:
    return HEAD + yaml.safe_dump_all(objects, sort_keys=False, width=120)


def main() -> None:
    """Write or check the files."""
    try:
        stale = {name: text for name, text in files().items() if _current(MANIFESTS / name) != text}
    except TestbedError as error:
        sys.exit(str(error))
    if stale and "--check" in sys.argv[1:]:
        names = ", ".join(f"manifests/{name}" for name in stale)
        sys.exit(f"Stale: {names}. Run `make generate`, and commit what it writes.")
    for name, text in stale.items():
        (MANIFESTS / name).parent.mkdir(exist_ok=True)
        (MANIFESTS / name).write_text(text)
        sys.stdout.write(f"Wrote: manifests/{name}\n")


def _current(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


if __name__ == "__main__":
    main()
