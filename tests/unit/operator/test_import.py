"""`kubectl agent import`: AgentDeployments from Deployments and from kagent's agents, always valid."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.runtime import TMP_DIR
from agent_operator.api.validation import parse
from agent_operator.cli import main
from agent_operator.tools.importing.belongings import Belongings
from agent_operator.tools.importing.convert import convert_all
from agent_operator.tools.importing.deployment import Choices
from agent_operator.tools.importing.selectors import selects

KEY = "sk-ant-api03-0123456789abcdef"
LABELS = {"app": "helper"}


def deployment(container: dict[str, Any] | None = None, *others: dict[str, Any], **pod: Any) -> dict[str, Any]:
    """Return a Deployment whose pods have these containers and settings."""
    main_container = {"name": "web", "image": "registry.example.com/helper:1.2", **(container or {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "helper"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": {"containers": [main_container, *others], **pod}},
        },
    }


def service(**spec: Any) -> dict[str, Any]:
    settings = {"selector": LABELS, "ports": [{"port": 80, "targetPort": 3000}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "helper"}, "spec": settings}


def kagent(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kagent.dev/v1alpha2",
        "kind": "Agent",
        "metadata": {"name": "helper", "namespace": "kagent"},
        "spec": spec,
    }


def model_config(name: str = "claude", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kagent.dev/v1alpha2",
        "kind": "ModelConfig",
        "metadata": {"name": name, "namespace": "kagent"},
        "spec": {"provider": "Anthropic", "model": "claude-opus-5", **spec},
    }


def converted(
    workload: dict[str, Any], *around: dict[str, Any], **choices: Any
) -> tuple[dict[str, Any], dict[str, str], AgentDeployment]:
    """Return the spec of the result, what was reported by field, and the result as it was parsed."""
    (found,) = convert_all([workload], Belongings([workload, *around]), Choices(**choices))
    return found.document["spec"], {each.field: each.message for each in found.notes}, parse(found.document)


def command(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, ["import", *arguments], input=stdin)


def variable(name: str, value: str | None = None, *, secret: str | None = None) -> dict[str, Any]:
    if secret is not None:
        return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": "key"}}}
    return {"name": name, "value": value}


def test_a_container_becomes_the_runtime() -> None:
    container = {
        "command": ["python"],
        "args": ["-m", "helper"],
        "workingDir": "/app",
        "env": [variable("LOG", "debug")],
        "envFrom": [{"configMapRef": {"name": "settings"}}],
        "ports": [{"containerPort": 3000}],
        "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
        "resources": {"requests": {"cpu": "200m"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 3000}},
        "startupProbe": {"httpGet": {"path": "/ready", "port": 3000}, "periodSeconds": 5, "failureThreshold": 30},
    }
    spec, _, agent = converted(deployment(container, volumes=[{"name": "data", "emptyDir": {}}]))

    runtime = spec["runtime"]
    same = ("command", "args", "workingDir", "env", "envFrom", "volumeMounts", "resources")
    assert {field: runtime[field] for field in same} == {field: container[field] for field in same}
    assert runtime["image"] == "registry.example.com/helper:1.2"
    assert (runtime["protocol"], runtime["port"], runtime["healthPath"]) == ("http", 3000, "/ready")
    assert runtime["startupSeconds"] == 150
    assert spec["extraVolumes"] == [{"name": "data", "emptyDir": {}}]
    assert agent.spec.replicas == 3


def test_a_key_in_a_secret_goes_to_the_gateway() -> None:
    container = {
        "env": [variable("ANTHROPIC_API_KEY", secret="keys"), variable("ANTHROPIC_BASE_URL", "https://gw.test")]
    }

    spec, notes, _ = converted(deployment(container))

    assert spec["apiKey"] == {"secretName": "keys", "secretKey": "key"}
    assert spec["agent"] == {"baseUrl": "https://gw.test"}
    assert "env" not in spec["runtime"]
    path = "spec.template.spec.containers[web].env"
    assert "the gateway holds the key" in notes[f"{path}[ANTHROPIC_API_KEY]"]
    assert "agent.baseUrl" in notes[f"{path}[ANTHROPIC_BASE_URL]"]


@pytest.mark.parametrize(
    "workload",
    [
        deployment({"env": [variable("ANTHROPIC_API_KEY", KEY)]}),
        deployment({"env": [variable("MY_KEY", KEY)]}),
        deployment({"env": [variable("SETTINGS", f"model=claude key={KEY}")]}),
        deployment({"args": ["--key", KEY]}),
        deployment({"ports": [{"containerPort": 1}]}, {"name": "b", "image": "b", "command": [f"x={KEY}"]}),
        deployment({}, initContainers=[{"name": "a", "image": "a", "env": [variable("ANTHROPIC_API_KEY", KEY)]}]),
        kagent(type="BYO", byo={"deployment": {"image": "a", "env": [variable("ANTHROPIC_API_KEY", KEY)]}}),
        kagent(declarative={"deployment": {"env": [variable("ANTHROPIC_API_KEY", KEY)]}}),
        kagent(declarative={"systemMessage": f"Your key is {KEY}"}),
    ],
)
def test_a_literal_key_is_never_printed(workload: dict[str, Any]) -> None:
    done = command("-f", "-", "--container", "web", stdin=yaml.safe_dump(workload))

    assert done.exit_code == 0, done.stderr
    assert KEY not in done.output
    assert "put it into a secret" in done.stderr.lower()


def test_a_runtime_keeps_its_own_access_to_openai() -> None:
    spec, _, _ = converted(deployment({"env": [variable("OPENAI_API_KEY", secret="keys")]}))

    assert [each["name"] for each in spec["runtime"]["env"]] == ["OPENAI_API_KEY", "OPENAI_BASE_URL"]


def test_the_container_behind_the_service_is_the_agent_and_others_are_sidecars() -> None:
    proxy = {"name": "proxy", "image": "envoy", "ports": [{"containerPort": 9000}]}
    workload = deployment({"ports": [{"name": "http", "containerPort": 3000}]}, proxy)

    spec, _, _ = converted(workload, service(ports=[{"port": 8080, "targetPort": "http"}]))

    assert spec["runtime"]["port"] == 3000
    assert spec["sidecars"] == [proxy]
    assert spec["service"] == {"port": 8080}


def test_a_choice_between_containers_is_left_to_the_user() -> None:
    workload = yaml.safe_dump(deployment({}, {"name": "other", "image": "b"}))

    asked = command("-f", "-", stdin=workload)
    chosen = command("-f", "-", "--container", "other", "-o", "json", stdin=workload)

    assert (asked.exit_code, asked.stdout) == (2, "")
    assert (
        asked.stderr == "Error: Deployment/helper: which container is the agent? Choose with --container: web, other\n"
    )
    assert json.loads(chosen.stdout)["spec"]["runtime"]["image"] == "b"


def test_scaling_budget_and_rollout_are_carried_over() -> None:
    workload = deployment({})
    workload["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}}
    utilization = {"type": "Utilization", "averageUtilization": 60}
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "any"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "helper"},
            "minReplicas": 2,
            "maxReplicas": 9,
            "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": utilization}},
                {"type": "Pods", "pods": {"metric": {"name": "queue"}}},
            ],
        },
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "any"},
        "spec": {"minAvailable": "50%", "selector": {"matchLabels": LABELS}},
    }

    spec, notes, _ = converted(workload, autoscaler, budget)

    assert spec["autoscaling"] == {
        "enabled": True,
        "minReplicas": 2,
        "maxReplicas": 9,
        "targetCPUUtilizationPercentage": 60,
    }
    assert "replicas" not in spec
    assert spec["podDisruptionBudget"] == {"minAvailable": "50%"}
    assert spec["rollout"] == {"maxSurge": 2, "maxUnavailable": 0}
    assert "targetInFlightRequests" in notes["HorizontalPodAutoscaler/any: spec.metrics[1]"]


def test_an_ingress_is_carried_over() -> None:
    backend = {"service": {"name": "helper", "port": {"number": 80}}}
    rule = {"host": "helper.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "any", "annotations": {"example.com/buffering": "off"}},
        "spec": {"ingressClassName": "nginx", "rules": [rule], "tls": [{"secretName": "certificate"}]},
    }

    spec, _, _ = converted(deployment({}), service(type="LoadBalancer"), ingress)

    assert spec["ingress"] == {
        "enabled": True,
        "className": "nginx",
        "annotations": {"example.com/buffering": "off"},
        "hosts": ["helper.example.com"],
        "path": "/",
        "pathType": "Prefix",
        "tlsSecretName": "certificate",
    }
    assert spec["service"] == {"type": "LoadBalancer", "port": 80}


@pytest.mark.parametrize(
    ("workload", "field", "words"),
    [
        (deployment({}, hostNetwork=True), "spec.template.spec.hostNetwork", "no such field"),
        (deployment({"lifecycle": {"preStop": {}}}), "spec.template.spec.containers[web].lifecycle", "SIGTERM"),
        (deployment({"ports": [{"containerPort": 8000}]}), "spec.template.spec.containers[web].ports", "PORT"),
        (deployment({"livenessProbe": {"tcpSocket": {}}}), "spec.template.spec.containers[web].livenessProbe", "HTTP"),
        (
            deployment({"envFrom": [{"configMapRef": {"name": "a", "optional": True}}]}),
            "spec.template.spec.containers[web].envFrom[0].configMapRef.optional",
            "no such field",
        ),
        (
            deployment({"volumeMounts": [{"name": "a", "mountPath": "/a"}]}, volumes=[{"name": "A", "emptyDir": {}}]),
            "spec.template.spec.containers[web].volumeMounts[a]",
            "its volume is not carried over",
        ),
        (deployment({"env": [variable("1X", "y")]}), "spec.template.spec.containers[web].env[1X]", "should match"),
        (kagent(type="BYO", byo={"deployment": {"image": "a"}}, skills={"refs": ["b"]}), "spec.skills", "volume"),
        (kagent(declarative={"memory": {"modelConfig": "a"}}), "spec.declarative.memory", "redis"),
        (kagent(declarative={"a2aConfig": {"skills": []}}), "spec.declarative.a2aConfig", "/chat"),
        (
            kagent(declarative={"systemMessageFrom": {"type": "Secret", "name": "a", "key": "b"}}),
            "spec.declarative.systemMessageFrom",
            "ConfigMap",
        ),
    ],
)
def test_what_has_no_counterpart_is_reported_by_its_path(workload: dict[str, Any], field: str, words: str) -> None:
    _, notes, _ = converted(workload)

    assert words in notes[field]


def test_the_old_objects_do_not_select_the_pods_of_the_agent() -> None:
    workload = deployment({})
    workload["spec"]["template"]["metadata"]["labels"] = {**LABELS, "tier": "front", "team": "search"}

    spec, notes, _ = converted(workload, service(selector={"tier": "front"}))

    assert spec["podLabels"] == {"team": "search"}
    assert "app.kubernetes.io/instance=helper" in notes["spec.template.metadata.labels.app"]
    assert "spec.template.metadata.labels.tier" in notes


def test_names_of_portside_are_not_taken() -> None:
    mounts = [{"name": "tmp", "mountPath": "/work"}]
    workload = deployment(
        {"volumeMounts": [*mounts, {"name": "cache", "mountPath": TMP_DIR}]},
        {"name": "agent", "image": "b", "volumeMounts": mounts},
        volumes=[{"name": "tmp", "emptyDir": {}}, {"name": "cache", "emptyDir": {}}],
    )

    spec, notes, _ = converted(workload, container="web")

    assert [each["name"] for each in spec["extraVolumes"]] == ["tmp-2"]
    assert spec["runtime"]["volumeMounts"] == [{"name": "tmp-2", "mountPath": "/work"}]
    assert [each["name"] for each in spec["sidecars"]] == ["agent-2"]
    assert spec["sidecars"][0]["volumeMounts"] == [{"name": "tmp-2", "mountPath": "/work"}]
    assert "writable /tmp" in notes["spec.template.spec.containers[web].volumeMounts[cache]"]


def test_the_user_of_the_pod_becomes_that_of_the_runtime_alone() -> None:
    spec, _, _ = converted(deployment({}, securityContext={"runAsUser": 1000, "fsGroup": 2000}))

    assert spec["runtime"]["securityContext"]["runAsUser"] == 1000
    assert spec["runtime"]["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["podSecurityContext"]["fsGroup"] == 2000
    assert "runAsUser" not in spec["podSecurityContext"]


def test_a_byo_agent_of_kagent_becomes_a_runtime_that_speaks_a2a() -> None:
    block = {
        "image": "registry.example.com/helper:1.2",
        "cmd": "/app/run",
        "args": ["--port", "8080"],
        "replicas": 2,
        "env": [variable("ANTHROPIC_API_KEY", secret="keys")],
        "imagePullSecrets": [{"name": "registry"}],
        "labels": {"team": "search"},
        "extraContainers": [{"name": "proxy", "image": "envoy"}],
    }

    spec, _, agent = converted(kagent(type="BYO", byo={"deployment": block}))

    assert spec["runtime"] == {
        "image": "registry.example.com/helper:1.2",
        "command": ["/app/run"],
        "args": ["--port", "8080"],
        "protocol": "a2a",
        "port": 8080,
    }
    assert spec["apiKey"] == {"secretName": "keys", "secretKey": "key"}
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["podLabels"] == {"team": "search"}
    assert spec["sidecars"] == [{"name": "proxy", "image": "envoy"}]
    assert (agent.namespace, agent.spec.replicas) == ("kagent", 2)


def test_a_declarative_agent_of_kagent_becomes_a_built_in_agent() -> None:
    declarative = {"systemMessage": "You help.", "modelConfig": "claude", "stream": True}
    config = model_config(apiKeySecret="keys", apiKeySecretKey="claude", anthropic={"maxTokens": 512, "topP": "0.5"})

    spec, notes, _ = converted(kagent(declarative=declarative), config)

    assert spec["agent"] == {"systemPrompt": "You help.", "model": "claude-opus-5", "maxTokens": 512}
    assert spec["apiKey"] == {"secretName": "keys", "secretKey": "claude"}
    assert "runtime" not in spec
    assert "ModelConfig/claude: spec.anthropic.topP" in notes


def test_the_description_of_an_agent_of_kagent_describes_it_to_a2a_clients() -> None:
    declarative = {"systemMessage": "You help.", "modelConfig": "claude"}

    spec, notes, _ = converted(kagent(declarative=declarative, description="Helps."), model_config())

    assert spec["agent"]["description"] == "Helps."
    assert not [field for field in notes if "description" in field]


def test_another_provider_of_a_declarative_agent_is_reported() -> None:
    config = model_config("default-model-config", provider="OpenAI", model="gpt-6", apiKeySecret="openai")

    spec, notes, _ = converted(kagent(declarative={"systemMessage": "You help."}), config)

    assert "model" not in spec["agent"]
    assert "OpenAI" in notes["ModelConfig/default-model-config: spec.provider"]
    assert spec["apiKey"] == {"secretName": "anthropic"}


def test_instructions_in_a_config_map_are_referred_to() -> None:
    source = {"type": "ConfigMap", "name": "prompts", "key": "helper"}

    spec, _, _ = converted(kagent(declarative={"systemMessageFrom": source}), model_config("default-model-config"))

    assert spec["agent"]["systemPromptFrom"] == {"configMapKeyRef": {"name": "prompts", "key": "helper"}}


def test_files_are_converted_together_and_what_remains_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump_all([deployment({}), service()]))
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"key": KEY}}
    (tmp_path / "b.yaml").write_text(
        yaml.safe_dump_all([kagent(type="BYO", byo={"deployment": {"image": "a"}}), secret])
    )

    done = command("-f", str(tmp_path))

    assert done.exit_code == 0
    assert [each["metadata"]["name"] for each in yaml.safe_load_all(done.stdout)] == ["helper", "helper"]
    assert "Note: Secret/keys: it stays as it is, and is referred to by its name.\n" in done.stderr
    assert "Service/helper: it" not in done.stderr
    assert KEY not in done.output


@pytest.mark.parametrize(
    ("arguments", "documents", "line"),
    [
        (["-f", "-"], [service()], "-: no Deployment or kagent Agent found"),
        (["-f", "-", "--kind", "agent"], [deployment({})], "-: no Agent found"),
        (["-f", "-", "--name", "a"], [deployment({}), kagent()], "--name is for one workload"),
        (["-f", "-"], [kagent(type="BYO", byo={})], "Agent/helper: spec.byo.deployment.image: is required"),
        (["-f", "-"], [{**kagent(), "apiVersion": "kagent.dev/v1alpha1"}], "only kagent.dev/v1alpha2 is converted"),
        (["-f", "-"], [deployment({"image": "a b"})], "Deployment/helper: cannot be converted: "),
        (["-f", "-"], [deployment({"image": None})], "Deployment/helper: cannot be converted: "),
    ],
)
def test_an_error_is_a_line_and_exit_code_2(arguments: list[str], documents: list[dict[str, Any]], line: str) -> None:
    done = command(*arguments, stdin=yaml.safe_dump_all(documents))

    assert (done.exit_code, done.stdout) == (2, "")
    assert line in done.stderr
    assert done.stderr.startswith("Error: ")


def test_a_name_that_no_agent_can_have_is_changed() -> None:
    workload = deployment({})
    workload["metadata"]["name"] = "1.helper." + "x" * 60

    _, notes, agent = converted(workload)

    assert agent.name == "agent-1-helper-" + "x" * 38
    assert "--name" in notes["metadata.name"]


_PARTS = """
    name image env value valueFrom secretKeyRef ports containerPort volumeMounts mountPath httpGet
    path key matchLabels operator effect emptyDir configMap requests limits cpu maxSkew topologyKey
    runAsUser
"""
_OF_PODS = """
    volumes tolerations affinity topologySpreadConstraints nodeSelector securityContext
    imagePullSecrets initContainers serviceAccountName terminationGracePeriodSeconds
    priorityClassName dnsConfig
"""
_OF_CONTAINERS = """
    command args env envFrom workingDir volumeMounts resources securityContext ports readinessProbe
    startupProbe imagePullPolicy lifecycle
"""

_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 70_000), st.text("abA/.-_:{ \x00", max_size=6))
_NAMES = st.sampled_from(_PARTS.split())
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4), max_leaves=8
)
_FIELDS = st.sampled_from(_OF_PODS.split())
_CONTAINER_FIELDS = st.sampled_from(_OF_CONTAINERS.split())


@given(
    container=st.dictionaries(_CONTAINER_FIELDS, _VALUES, max_size=4),
    pod=st.dictionaries(_FIELDS, _VALUES, max_size=4),
    block=st.dictionaries(st.one_of(_FIELDS, _CONTAINER_FIELDS), _VALUES, max_size=4),
)
def test_every_result_is_valid(container: dict[str, Any], pod: dict[str, Any], block: dict[str, Any]) -> None:
    converted(deployment(container, **pod))
    converted(kagent(type="BYO", byo={"deployment": {**block, "image": "a"}}))
    converted(kagent(declarative={"deployment": block}))


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ({"matchLabels": {"app": "helper"}}, True),
        ({"matchLabels": {"app": "other"}}, False),
        ({}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["helper"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["helper"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_selectors_match_as_in_the_api_server(selector: dict[str, Any], *, matches: bool) -> None:
    assert selects(selector, LABELS) is matches
