"""The charts and the plain manifests, against a real API server."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_operator.api.crd import class_crd, crd
from agent_operator.classes.load import load_classes
from support.manifests import documents
from support.operator import documented_rules
from testbed import paths
from testbed.cluster import Cluster
from testbed.errors import TestbedError

HELM = paths.REPOSITORY / "helm"
OPERATOR_CHART = str(HELM / "agent-operator")
AGENT_CHART = str(HELM / "agent")
Helm = Callable[..., str]

RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

# One agent with as many fields of the spec as possible, so that strict validation covers the lines of every template.
FULL = {
    "image": {"digest": f"sha256:{'0' * 64}", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "agent": {"systemPrompt": "One line.\nAnd another.\n", "baseUrl": "https://gateway.example/v1"},
    "apiKey": {"value": "not-a-real-key"},
    "autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 4, "targetMemoryUtilizationPercentage": 80},
    "service": {"type": "LoadBalancer", "port": 8080, "annotations": {"example.com/internal": "true"}},
    "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
    "podAnnotations": {"example.com/team": "docks"},
    "podLabels": {"team": "docks"},
    "rollout": {"maxSurge": "25%", "maxUnavailable": 1, "terminationGracePeriodSeconds": 30},
    "auth": {"enabled": True},
    "redis": {"secretName": "state"},
    "worker": {"enabled": True, "replicas": 2, "autoscaling": {"enabled": True, "minReplicas": 2}},
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "hosts": ["a.example.com", "*.b.example.com"],
        "tlsSecretName": "x",
    },
    "rateLimit": {
        "tokensPerMinute": 1000,
        "perClient": {"requestsPerMinute": 60, "tokensPerMinute": 100},
        "perTenant": {"tokensPerMinute": 500},
        "trustedProxies": ["10.0.0.0/8"],
    },
    "cors": {"origins": ["https://app.example.com"]},
    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}},
    "topologySpreadConstraints": [{"topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "priorityClassName": "system-cluster-critical",
    "serviceAccount": {"name": "robot", "annotations": {"example.com/role": "reader"}},
    "extraEnv": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
    "envFrom": [{"prefix": "P_", "secretRef": {"name": "more"}}],
    "extraVolumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}],
    "extraVolumeMounts": [{"name": "data", "mountPath": "/data"}],
    "initContainers": [{"name": "first", "image": "busybox", "command": ["true"], "securityContext": RESTRICTED}],
    "sidecars": [{"name": "beside", "image": "busybox", "securityContext": RESTRICTED}],
    "runtime": {
        "image": "example.com/agent:1",
        "command": ["agent"],
        "args": ["--verbose"],
        "workingDir": "/app",
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "more"}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
    },
    "tools": [
        {
            "name": "remote",
            "mcp": {
                "url": "http://clock.tools:8080/mcp",
                "headersFrom": [{"name": "X-Key", "secretKeyRef": {"name": "mcp", "key": "token"}}],
            },
        },
        {"name": "beside", "mcp": {"sidecar": {"image": "example.com/clock:1"}}},
        {"name": "local", "code": {"configMapKeyRef": {"name": "code", "key": "tools.py"}, "port": 8091}},
        {"name": "search", "builtin": "web_search"},
    ],
    "podDisruptionBudget": {"minAvailable": "50%"},
    "networkPolicy": {
        "ingressFrom": [{"namespaceSelector": {"matchLabels": {"team": "docks"}}}],
        "extraEgress": [{"ports": [{"port": 4318, "protocol": "TCP"}]}],
    },
}


@pytest.mark.parametrize("chart", [OPERATOR_CHART, AGENT_CHART], ids=["agent-operator", "agent"])
def test_helm_lint_finds_nothing(helm: Helm, chart: str) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", chart)


@pytest.mark.parametrize(
    "values",
    [{"agent": {"provider": "echo"}}, FULL, {"apiKey": {"secretName": "anthropic"}}],
    ids=["echo", "all", "key"],
)
def test_the_api_server_accepts_the_agent_chart_without_a_warning(
    helm: Helm, control_plane: Cluster, namespace: str, values: dict[str, Any]
) -> None:
    objects = helm("template", "my-agent", AGENT_CHART, "-n", namespace, "-f", "-", stdin=json.dumps(values))
    accepted = _dry_run(control_plane, namespace, objects)
    made = [document["kind"] for document in documents(objects) if document]
    assert {"ConfigMap", "Service", "Deployment", "NetworkPolicy", "ServiceAccount"} <= set(made)
    assert accepted.count("created (server dry run)") == len(made)


def test_a_parent_chart_can_switch_it_on_and_off(helm: Helm, tmp_path: Path) -> None:
    shutil.copytree(AGENT_CHART, tmp_path / "charts" / "agent")
    dependency = {"name": "agent", "version": version("portside"), "condition": "agent.enabled"}
    whole = {"apiVersion": "v2", "name": "whole", "version": "1.0.0", "dependencies": [dependency]}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(whole))

    def rendered(*, enabled: bool) -> str:
        values = json.dumps({"agent": {"enabled": enabled, "agent": {"provider": "echo"}}})
        return helm("template", "my-agent", str(tmp_path), "-f", "-", stdin=values)

    assert "kind: Deployment" in rendered(enabled=True)
    assert "kind: Deployment" not in rendered(enabled=False)


def test_the_api_server_accepts_the_operator_chart_without_a_warning(
    helm: Helm, control_plane: Cluster, namespace: str
) -> None:
    objects = helm("template", "agent-operator", OPERATOR_CHART, "-n", namespace)
    assert "deployment.apps/agent-operator created" in _dry_run(control_plane, namespace, objects)


def test_the_operator_chart_grants_the_documented_rights_and_nothing_else(helm: Helm) -> None:
    [role] = [
        each
        for each in _objects(helm("template", "o", OPERATOR_CHART))
        if (each["kind"], each["metadata"]["name"]) == ("ClusterRole", "default-o")
    ]
    granted = _rights(role["rules"])
    assert granted == _rights([*documented_rules(), *documented_rules(of_classes=True)])
    assert not {"get", "list", "watch"} & granted["", "secrets"]
    assert "*" not in json.dumps(role["rules"])


def test_an_operator_for_some_namespaces_has_rights_only_in_those(helm: Helm) -> None:
    objects = _objects(helm("template", "o", OPERATOR_CHART, "--set", "watchNamespaces={one,two}"))
    assert not [each for each in objects if each["kind"].startswith("ClusterRole")]
    for kind in ("Role", "RoleBinding"):
        places = [each["metadata"]["namespace"] for each in objects if each["kind"] == kind]
        assert places == ["default", "one", "two"]
    [of_agents] = [each for each in objects if each["kind"] == "Role" and each["metadata"]["namespace"] == "one"]
    assert _rights(of_agents["rules"]) == _rights(documented_rules())
    [leader] = [each for each in objects if each["kind"] == "Role" and each["metadata"]["namespace"] == "default"]
    assert _rights(leader["rules"]) == _rights(documented_rules(of_leases=True))
    [deployment] = [each for each in objects if each["kind"] == "Deployment"]
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[-2:] == ["--namespace=one", "--namespace=two"]


def test_an_invalid_value_of_the_operator_chart_is_rejected_with_its_path(helm: Helm, control_plane: Cluster) -> None:
    with pytest.raises(Exception, match=r"logging.level"):
        helm("template", "o", OPERATOR_CHART, "--set", "logging.level=LOUD")
    with pytest.raises(Exception, match="replicaz"):
        helm("template", "o", OPERATOR_CHART, "--set", "replicaz=2")


@pytest.mark.parametrize(
    "path",
    [
        *("image", "image.repository", "image.pullPolicy"),
        *("logging", "logging.level", "logging.format"),
        *("crds", "crds.install"),
        "replicaCount",
    ],
)
def test_a_null_that_removes_a_default_of_the_operator_chart_is_rejected(helm: Helm, path: str) -> None:
    with pytest.raises(TestbedError, match=rf"missing property '{path.rpartition('.')[2]}'"):
        helm("template", "o", OPERATOR_CHART, "--set", f"{path}=null")


@pytest.mark.parametrize(
    "path",
    ["watchNamespaces", "selector", "imagePullSecrets", "nodeSelector", "tolerations", "nameOverride", "classes"],
)
def test_a_null_where_the_operator_chart_has_no_default_changes_nothing(helm: Helm, path: str) -> None:
    assert helm("template", "o", OPERATOR_CHART, "--set", f"{path}=null") == helm("template", "o", OPERATOR_CHART)


def test_classes_of_an_operator_for_some_namespaces_are_a_file_that_it_reads(helm: Helm, tmp_path: Path) -> None:
    of_class = {"metadata": {"name": "standard"}, "spec": {"bounds": {"replicas": {"max": 3}}}}
    values = {"watchNamespaces": ["one"], "classes": {"objects": [of_class]}}
    objects = _objects(helm("template", "o", OPERATOR_CHART, "-f", "-", stdin=json.dumps(values)))

    [file] = [each for each in objects if each["kind"] == "ConfigMap"]
    (tmp_path / "classes.yaml").write_text(file["data"]["classes.yaml"])
    assert load_classes(tmp_path).valid["standard"].spec.bounds.replicas is not None
    [deployment] = [each for each in objects if each["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert "--class=/etc/portside/classes" in pod["containers"][0]["args"]
    assert {"name": "classes", "configMap": {"name": file["metadata"]["name"]}} in pod["volumes"]
    with pytest.raises(TestbedError, match=r"classes\.objects is for an operator with watchNamespaces"):
        helm("template", "o", OPERATOR_CHART, "-f", "-", stdin=json.dumps({**values, "watchNamespaces": []}))


def test_an_operator_may_run_with_resources_unset(helm: Helm) -> None:
    objects = _objects(helm("template", "o", OPERATOR_CHART, "--set", "resources=null"))
    [deployment] = [each for each in objects if each["kind"] == "Deployment"]
    assert "resources" not in deployment["spec"]["template"]["spec"]["containers"][0]


def test_the_definitions_in_the_chart_are_generated_from_the_models_and_are_kept(helm: Helm) -> None:
    objects = _objects(helm("template", "o", OPERATOR_CHART))
    definitions = [each for each in objects if each["kind"] == "CustomResourceDefinition"]
    specs = {each["metadata"]["name"]: each["spec"] for each in definitions}
    assert specs == {each["metadata"]["name"]: each["spec"] for each in (crd(), class_crd())}
    assert {each["metadata"]["annotations"]["helm.sh/resource-policy"] for each in definitions} == {"keep"}
    without = _objects(helm("template", "o", OPERATOR_CHART, "--set", "crds.install=false"))
    assert not [each for each in without if each["kind"] == "CustomResourceDefinition"]


def test_generated_files_are_up_to_date_with_the_models_and_the_chart() -> None:
    environment = os.environ | {"PYTHONPATH": str(paths.REPOSITORY / "dev")}
    check = [sys.executable, "-m", "codegen", "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_kustomize_renders_the_install_and_the_api_server_accepts_it(control_plane: Cluster) -> None:
    objects = control_plane.kubectl("kustomize", str(paths.REPOSITORY / "manifests" / "install"))
    first = next(each for each in _objects(objects) if each["kind"] == "Namespace")
    control_plane.kubectl("apply", "-f-", stdin=json.dumps(first))
    assert "deployment.apps/agent-operator created" in _dry_run(control_plane, "portside-system", objects)


def _dry_run(cluster: Cluster, namespace: str, objects: str) -> str:
    """Apply in a strict dry run under the restricted Pod Security Standard; every warning is a failure."""
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/warn=restricted", "--overwrite")
    apply = ["apply", "-f-", "--dry-run=server", "--validate=strict", "--warnings-as-errors"]
    return cluster.kubectl(*apply, "-n", namespace, stdin=objects)


def _objects(text: str) -> list[dict[str, Any]]:
    return documents(text)


def _rights(rules: list[dict[str, Any]]) -> dict[tuple[str, str], set[str]]:
    """Return the verbs that rules grant on each resource of each API group."""
    granted: dict[tuple[str, str], set[str]] = {}
    for rule in rules:
        for group, resource in product(rule["apiGroups"], rule["resources"]):
            granted.setdefault((group, resource), set()).update(rule["verbs"])
    return granted
