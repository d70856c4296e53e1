"""The manifests in manifests/gitops: values that the chart accepts, and a health check in Argo CD's Lua."""

import json
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from lint import rendered
from support.manifests import documents
from testbed import binaries

KEY = "resource.customizations.health.portside.dev_AgentDeployment"
READY = {"type": "Ready", "status": "True", "message": "All pods are ready"}
ROLLING = {"type": "Ready", "status": "False", "message": "1 of 2 pods is ready"}
SOUND = {"type": "Degraded", "status": "False", "message": "Nothing is wrong"}
DEGRADED = {"type": "Degraded", "status": "True", "message": "The image cannot be pulled"}


@pytest.mark.parametrize(
    ("status", "health", "message"),
    [
        (None, "Progressing", "Waiting for the operator"),
        ({"observedGeneration": 1, "conditions": [READY, SOUND]}, "Progressing", "Waiting for the operator"),
        ({"observedGeneration": 2}, "Progressing", "Waiting for the operator"),
        ({"observedGeneration": 2, "conditions": [ROLLING, SOUND]}, "Progressing", "1 of 2 pods is ready"),
        ({"observedGeneration": 2, "conditions": [READY, SOUND]}, "Healthy", "All pods are ready"),
        ({"observedGeneration": 2, "conditions": [ROLLING, DEGRADED]}, "Degraded", "The image cannot be pulled"),
    ],
    ids=["unseen", "seen before a change", "no conditions", "rolling out", "ready", "degraded"],
)
def test_the_health_check_of_argo_cd_follows_the_conditions_of_an_agent(
    tmp_path: Path, status: dict[str, Any] | None, health: str, message: str
) -> None:
    agent = {"metadata": {"name": "hello", "generation": 2}, **({"status": status} if status else {})}
    script = tmp_path / "health.lua"
    script.write_text(
        f"obj = {_lua(agent)}\nlocal judged = (function()\n{_health_check()}end)()\n"
        'print(judged.status .. "\\n" .. judged.message)\n'
    )
    done = subprocess.run(
        [binaries.provide("glua")["glua"], script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == [health, message], done.stderr


def test_the_chart_accepts_the_values_of_both_tools_at_their_pinned_version(tmp_path: Path) -> None:
    [argo_cd] = [each["spec"]["source"] for each in _documents("argo-cd") if each["metadata"]["name"] == "portside"]
    [flux] = [each["spec"]["values"] for each in _documents("flux") if each["kind"] == "HelmRelease"]
    [source] = [each["spec"]["ref"] for each in _documents("flux") if each["kind"] == "OCIRepository"]
    assert argo_cd["targetRevision"] == version("portside"), "a new version is written into manifests/gitops too"
    assert source["semver"] == f"{version('portside').rpartition('.')[0]}.x"
    file = tmp_path / "values.yaml"
    for values in (argo_cd["helm"]["valuesObject"], flux):
        file.write_text(json.dumps(values))
        made = rendered.template(rendered.CHARTS / "agent-operator", "--values", str(file))
        assert {"ServiceMonitor", "PrometheusRule"} <= {each["kind"] for each in documents(made) if each}


def _documents(name: str) -> list[dict[str, Any]]:
    return documents((rendered.GITOPS / f"{name}.yaml").read_text())


def _health_check() -> str:
    [check] = [each["data"][KEY] for each in _documents("argo-cd") if each["kind"] == "ConfigMap"]
    return str(check)


def _lua(value: Any) -> str:
    """Return the value as a Lua literal."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{json.dumps(key)}] = {_lua(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(map(_lua, value)) + "}"
    return json.dumps(value)
