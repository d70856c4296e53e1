"""`agent-operator import NAME` reads a workload and what belongs to it; the API server accepts the result."""

from typing import Any

import pytest
import yaml

from cluster.tools_bed import tool
from support.operator import Namespace, install_definition, service_account
from testbed.cluster import Cluster
from testbed.paths import REPOSITORY

DEFINITIONS = REPOSITORY / "tests" / "support" / "mcp_servers"
LABELS = {"app": "helper"}
KEY = "sk-ant-api03-0123456789abcdef"
BACKEND = {"service": {"name": "helper", "port": {"number": 80}}}


@pytest.fixture
def here(control_plane: Cluster, namespace: str) -> Namespace:
    """A fresh namespace in which no operator runs."""
    install_definition(control_plane)
    return Namespace(control_plane, namespace)


def named(api_version: str, kind: str, spec: dict[str, Any], name: str = "helper") -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def deployment() -> dict[str, Any]:
    key = {"secretKeyRef": {"name": "keys", "key": "anthropic"}}
    container = {
        "name": "web",
        "image": "registry.example.com/helper:1.2",
        "ports": [{"name": "http", "containerPort": 3000}],
        "env": [{"name": "ANTHROPIC_API_KEY", "valueFrom": key}, {"name": "LOG", "value": "debug"}],
        "envFrom": [{"configMapRef": {"name": "settings"}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
    }
    pod = {
        "containers": [container, {"name": "proxy", "image": "envoy"}],
        "initContainers": [{"name": "prepare", "image": "busybox"}],
        "volumes": [{"name": "data", "configMap": {"name": "data"}}],
        "tolerations": [{"key": "spot", "operator": "Exists"}],
    }
    template = {"metadata": {"labels": LABELS}, "spec": pod}
    return named("apps/v1", "Deployment", {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template})


def apply_workload(here: Namespace) -> None:
    """Apply the Deployment with a Service, an Ingress, an autoscaler, a budget, and the Secret with its key."""
    rule = {"host": "a.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACKEND}]}}
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "helper"}
    here.apply(deployment())
    here.apply(named("v1", "Service", {"selector": LABELS, "ports": [{"port": 80, "targetPort": "http"}]}))
    here.apply(named("networking.k8s.io/v1", "Ingress", {"rules": [rule]}))
    here.apply(named("autoscaling/v2", "HorizontalPodAutoscaler", {"scaleTargetRef": reference, "maxReplicas": 9}))
    here.apply(named("policy/v1", "PodDisruptionBudget", {"minAvailable": 1, "selector": {"matchLabels": LABELS}}))
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"anthropic": KEY}}
    here.apply(secret)


def test_a_deployment_is_imported_with_what_belongs_to_it(here: Namespace) -> None:
    apply_workload(here)

    done = tool(here, "import", "helper", "--name", "helper-2")

    assert done.returncode == 0, done.stderr
    spec = yaml.safe_load(done.stdout)["spec"]
    assert spec["runtime"]["port"] == 3000
    assert spec["service"] == {"port": 80}
    assert spec["ingress"]["hosts"] == ["a.example.com"]
    assert spec["autoscaling"]["maxReplicas"] == 9
    assert spec["podDisruptionBudget"] == {"minAvailable": 1}
    assert spec["apiKey"] == {"secretName": "keys", "secretKey": "anthropic"}
    assert [each["name"] for each in spec["sidecars"]] == ["proxy"]
    # Fields that only the API server has set are no losses.
    lost = [line for line in done.stderr.splitlines() if line.startswith("No counterpart")]
    assert [line.split(": ")[2] for line in lost] == ["spec.template.metadata.labels.app"]
    assert "Note: ConfigMap/settings: does not exist, and the pods need it: create it.\n" in done.stderr
    assert KEY not in done.stdout + done.stderr
    assert_accepted(here, done.stdout)


def test_the_rights_to_read_the_workload_are_enough(here: Namespace) -> None:
    apply_workload(here)
    rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}]
    with service_account(here.cluster, here.name, cluster_wide=False, rules=rules) as kubeconfig:
        done = tool(here, "import", "helper", "--container", "web", kubeconfig=kubeconfig)

    assert done.returncode == 0, done.stderr
    assert "Note: Service: could not be read, so it is not in the result: services is forbidden" in done.stderr


def test_agents_of_kagent_are_imported_with_their_model(here: Namespace, kagent: None) -> None:
    here.apply(named("kagent.dev/v1alpha2", "ModelConfig", {"provider": "Anthropic", "model": "claude-opus-5"}, "one"))
    declarative = {"systemMessage": "You help.", "modelConfig": "one", "tools": []}
    here.apply(named("kagent.dev/v1alpha2", "Agent", {"type": "Declarative", "declarative": declarative}))
    byo = {"deployment": {"image": "registry.example.com/helper:1.2", "replicas": 2}}
    here.apply(named("kagent.dev/v1alpha2", "Agent", {"type": "BYO", "byo": byo}, "mine"))

    built_in, runtime = tool(here, "import", "helper"), tool(here, "import", "mine", "-o", "json")

    assert yaml.safe_load(built_in.stdout)["spec"]["agent"] == {"systemPrompt": "You help.", "model": "claude-opus-5"}
    assert yaml.safe_load(runtime.stdout)["spec"]["runtime"]["protocol"] == "a2a"
    assert_accepted(here, built_in.stdout)
    assert_accepted(here, runtime.stdout)


def test_a_workload_that_is_not_there_is_an_error(here: Namespace) -> None:
    done = tool(here, "import", "helper")

    assert (done.returncode, done.stdout) == (2, "")
    assert f"No Deployment or kagent Agent helper found in namespace {here.name}" in done.stderr


def test_tools_of_an_agent_of_kagent_refer_to_the_same_servers(here: Namespace, kagent: None) -> None:
    spec = {"description": "Documents", "url": "http://docs.test/mcp"}
    here.apply(named("kagent.dev/v1alpha2", "RemoteMCPServer", spec, "docs"))
    servers = ({"kind": "RemoteMCPServer", "name": "docs", "toolNames": ["search"]}, {"name": "clock"})
    tools = [{"type": "McpServer", "mcpServer": {"apiGroup": "kagent.dev", **each}} for each in servers]
    declarative = {"systemMessage": "You help.", "tools": tools}
    here.apply(named("kagent.dev/v1alpha2", "Agent", {"type": "Declarative", "declarative": declarative}))

    done = tool(here, "import", "helper")

    docs, clock = yaml.safe_load(done.stdout)["spec"]["tools"]
    reference = {"group": "kagent.dev", "kind": "RemoteMCPServer", "name": "docs"}
    # The timeout is the default of kagent's definition.
    assert docs == {"name": "docs", "mcp": {"serverRef": reference}, "allow": ["search"], "timeoutSeconds": 30}
    assert clock["mcp"]["serverRef"]["kind"] == "MCPServer"
    assert "spec.declarative.tools[1].mcpServer: MCPServer clock was not found" in done.stderr
    assert_accepted(here, done.stdout)


@pytest.fixture
def kagent(control_plane: Cluster) -> None:
    """Definitions with the names of kagent's kinds, which accept any spec, and those of its servers and of kmcp's."""
    for kind, plural in (("Agent", "agents"), ("ModelConfig", "modelconfigs")):
        control_plane.kubectl("apply", "--server-side", "-f-", stdin=yaml.safe_dump(definition(kind, plural)))
        control_plane.kubectl("wait", "--for=condition=Established", f"crd/{plural}.kagent.dev", "--timeout=30s")
    for product, plural in (("kagent", "remotemcpservers"), ("kmcp", "mcpservers")):
        control_plane.kubectl("apply", "--server-side", "-f", str(DEFINITIONS / f"{product}.yaml"))
        control_plane.kubectl("wait", "--for=condition=Established", f"crd/{plural}.kagent.dev", "--timeout=30s")


def definition(kind: str, plural: str) -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1alpha2", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": kind, "plural": plural, "singular": kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.kagent.dev"},
        "spec": {"group": "kagent.dev", "scope": "Namespaced", "names": names, "versions": [version]},
    }


def assert_accepted(here: Namespace, text: str) -> None:
    """Assert that the API server accepts the AgentDeployment as it was printed."""
    here.cluster.kubectl("apply", "--dry-run=server", "-n", here.name, "-f-", stdin=text)
