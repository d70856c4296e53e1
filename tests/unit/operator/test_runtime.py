"""The runtime of an agent: its container, what it can reach of the pod, and the settings that belong to it."""

import json
from typing import Any

import pytest

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.runtime import OUR_PORTS
from agent_operator.api.spec import AgentSpec
from agent_operator.manifests import desired
from agent_operator.manifests.names import CONTAINER_PORT, GATEWAY_PORT, METRICS_PORT
from agent_service.config.settings import Settings

Document = dict[str, Any]
IMAGE = {"image": "registry.example.com/agent:1.2"}
CODE = {"code": {"configMapKeyRef": {"name": "code", "key": "agent.py"}}}
REDIS = {"redis": {"url": "redis://state"}}
PROMPT = {"configMapKeyRef": {"name": "prompts", "key": "desk"}}
HARDENED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def objects(**spec: Any) -> dict[tuple[str, str], Document]:
    """Return the objects of an echo agent by kind and name; the keyword arguments are fields of its spec."""
    model = AgentSpec.model_validate({"agent": {"provider": "echo"}, **spec})
    return {(each["kind"], each["metadata"]["name"]): each for each in desired(AgentDeployment("hello", "prod", model))}


def pod(name: str = "hello", /, **spec: Any) -> Document:
    """Return the pod template's spec of the Deployment."""
    template: Document = objects(**spec)["Deployment", name]["spec"]["template"]["spec"]
    return template


def runtime(name: str = "hello", /, **spec: Any) -> Document:
    """Return the runtime's container."""
    (container,) = [each for each in pod(name, **spec)["initContainers"] if each["name"] == "runtime"]
    found: Document = container
    return found


def variables(**spec: Any) -> dict[str, str]:
    """Return the environment of the runtime."""
    return {each["name"]: each["value"] for each in runtime(**spec)["env"]}


def settings(**spec: Any) -> dict[str, str]:
    """Return the settings of the agent's container that belong to a runtime."""
    data = objects(**spec)["ConfigMap", "hello"]["data"]
    return {key: value for key, value in data.items() if key.startswith(("RUNTIME_", "GATEWAY_"))}


@pytest.mark.parametrize("name", ["hello", "hello-worker"])
def test_the_runtime_is_a_native_sidecar_after_the_users_init_containers(name: str) -> None:
    first = {"name": "first", "image": "busybox"}
    containers = pod(name, runtime=IMAGE, initContainers=[first], worker={"enabled": True}, **REDIS)["initContainers"]

    assert [each["name"] for each in containers] == ["first", "runtime"]
    assert containers[1]["restartPolicy"] == "Always"
    assert containers[1]["image"] == "registry.example.com/agent:1.2"
    assert containers[1]["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"memory": "1Gi"},
    }


@pytest.mark.parametrize(
    ("protocol", "path"),
    [("invocations", "/ping"), ("a2a", "/.well-known/agent-card.json"), ("openai", "/health"), ("http", "/")],
)
def test_probes_request_the_health_path_of_the_protocol(protocol: str, path: str) -> None:
    container = runtime(runtime={**IMAGE, "protocol": protocol, "port": 9000, "startupSeconds": 30})

    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": path, "port": 9000}
    assert (container["startupProbe"]["periodSeconds"], container["startupProbe"]["failureThreshold"]) == (1, 30)
    configured = runtime(runtime={**IMAGE, "protocol": protocol, "healthPath": "/up"})
    assert configured["readinessProbe"]["httpGet"]["path"] == "/up"
    documented = Settings.model_fields["runtime_health_path"].description or ""
    assert f"`{path}`" in documented, "the service has the same default"


def test_settings_of_the_runtime_are_in_the_config_map_only_with_a_runtime() -> None:
    assert settings(agent={"provider": "echo", "models": ["other"]}) == {}
    assert settings(runtime=IMAGE) == {
        "RUNTIME_URL": "http://127.0.0.1:8080",
        "RUNTIME_PROTOCOL": "invocations",
        "GATEWAY_PORT": "8089",
        "GATEWAY_MAX_TOKENS": "128000",
        "GATEWAY_PROMPT_CACHING": "true",
    }
    given = {"protocol": "openai", "port": 81, "path": "/a", "healthPath": "/b", "maxTokens": 5, "promptCaching": False}
    data = settings(runtime={**IMAGE, **given}, agent={"provider": "echo", "models": ["b", "a"]})
    assert data == {
        "RUNTIME_URL": "http://127.0.0.1:81",
        "RUNTIME_PROTOCOL": "openai",
        "RUNTIME_PATH": "/a",
        "RUNTIME_HEALTH_PATH": "/b",
        "GATEWAY_PORT": "8089",
        "GATEWAY_MODELS": "b,a",
        "GATEWAY_MAX_TOKENS": "5",
        "GATEWAY_PROMPT_CACHING": "false",
    }
    read = Settings.model_validate({"model_provider": "echo"} | {key.lower(): value for key, value in data.items()})
    assert read.gateway_models == ("b", "a")


def test_the_environment_leads_sdks_to_the_gateway_and_the_user_may_replace_it() -> None:
    tracing = {"tracing": {"endpoint": "http://collector:4318"}}
    found = variables(runtime=IMAGE, monitoring=tracing)

    assert found == {
        "PORT": "8080",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:8089",
        "ANTHROPIC_API_KEY": "portside-gateway",
        "ANTHROPIC_MODEL": "claude-sonnet-5-5",
        "OPENAI_BASE_URL": "http://127.0.0.1:8089/v1",
        "OPENAI_API_KEY": "portside-gateway",
        "PORTSIDE_MAX_TOKENS": "4096",
        "PORTSIDE_MODEL": "claude-sonnet-5-5",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        "OTEL_SERVICE_NAME": "hello",
        "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=prod,k8s.namespace.name=prod",
        "AGENT_NAME": "hello",
        "AGENT_NAMESPACE": "prod",
    }
    own = [{"name": "ANTHROPIC_MODEL", "value": "mine"}, {"name": "MORE", "value": "$(PORT)"}]
    env = runtime(runtime={**IMAGE, "env": own})["env"]
    assert env[-2:] == own
    assert len({each["name"] for each in env}) == len(env)


def test_the_environment_has_the_address_of_the_tools_only_where_there_are_some() -> None:
    tools = [{"name": "a", "mcp": {"url": "https://mcp.example.com/mcp"}}]

    assert variables(runtime=IMAGE, tools=tools)["PORTSIDE_MCP_URL"] == "http://127.0.0.1:8089/mcp"
    assert "PORTSIDE_MCP_URL" not in variables(runtime=IMAGE)


def test_nothing_secret_is_in_the_runtime() -> None:
    secret = {
        "apiKey": {"value": "sk-very-secret"},
        "auth": {"enabled": True, "existingSecret": "clients"},
        "redis": {"secretName": "state"},
        "agent": {"systemPromptFrom": PROMPT},
    }
    containers = json.dumps(runtime(runtime=IMAGE, **secret))
    volumes = {each["name"]: each for each in pod(runtime=IMAGE, **secret)["volumes"]}
    mounted = [each["name"] for each in runtime(runtime=IMAGE, **secret)["volumeMounts"]]

    assert "sk-very-secret" not in containers
    assert "configMapRef" not in containers
    assert mounted == ["runtime-tmp", "runtime-prompt"]
    assert all("secret" not in json.dumps(volumes[name]) for name in mounted)
    assert pod(runtime=IMAGE, **secret)["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("given", "config_map", "key"),
    [({"systemPrompt": "Be kind."}, "hello", "SYSTEM_PROMPT"), ({"systemPromptFrom": PROMPT}, "prompts", "desk")],
)
def test_the_instructions_are_a_file(given: Document, config_map: str, key: str) -> None:
    spec = {"runtime": IMAGE, "agent": {"provider": "echo", **given}}

    assert variables(**spec)["PORTSIDE_SYSTEM_PROMPT_FILE"] == "/etc/portside/prompt/SYSTEM_PROMPT"
    assert {"name": "runtime-prompt", "mountPath": "/etc/portside/prompt", "readOnly": True} in runtime(**spec)[
        "volumeMounts"
    ]
    items = [{"key": key, "path": "SYSTEM_PROMPT"}]
    assert {"name": "runtime-prompt", "configMap": {"name": config_map, "items": items}} in pod(**spec)["volumes"]
    assert "PORTSIDE_SYSTEM_PROMPT_FILE" not in variables(runtime=IMAGE)


def test_a_file_is_run_by_the_image_of_portside() -> None:
    spec = {"runtime": CODE, "image": {"repository": "example.com/service", "tag": "7", "pullPolicy": "Always"}}
    container = runtime(**spec)

    assert (container["image"], container["imagePullPolicy"]) == ("example.com/service:7", "Always")
    assert container["args"] == ["runtime", "--host", "::", "--loopback-only", "/etc/portside/agent/agent.py"]
    assert {"name": "runtime-code", "mountPath": "/etc/portside/agent", "readOnly": True} in container["volumeMounts"]
    items = [{"key": "agent.py", "path": "agent.py"}]
    assert {"name": "runtime-code", "configMap": {"name": "code", "items": items}} in pod(**spec)["volumes"]


def test_the_runtime_has_the_user_of_its_image_and_the_other_containers_have_ours() -> None:
    root = {"name": "root", "image": "x", "securityContext": {"runAsUser": 0}}
    whole = pod(runtime=IMAGE, sidecars=[{"name": "beside", "image": "x"}], initContainers=[root])

    ours = {"runAsUser": 10001, "runAsGroup": 10001}
    assert whole["securityContext"] == {
        "runAsNonRoot": True,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert [each["securityContext"] for each in whole["initContainers"]] == [
        ours | {"runAsUser": 0},
        {"runAsNonRoot": True, **HARDENED},
    ]
    assert [each["securityContext"] for each in whole["containers"]] == [ours | HARDENED, ours]
    # A user that was configured for the pods applies to the runtime too.
    configured = pod(runtime=IMAGE, podSecurityContext={"runAsUser": 7})
    assert configured["securityContext"] == {"runAsUser": 7}
    assert configured["containers"][0]["securityContext"] == HARDENED


def test_a_configured_security_context_replaces_the_default_as_a_whole() -> None:
    assert runtime(runtime={**IMAGE, "securityContext": {"runAsUser": 5}})["securityContext"] == {"runAsUser": 5}
    assert "securityContext" not in runtime(runtime={**IMAGE, "securityContext": {}})


def test_no_port_of_the_runtime_or_the_gateway_is_open_to_other_pods() -> None:
    policy = objects(runtime=IMAGE)["NetworkPolicy", "hello"]["spec"]

    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["http", "metrics"]
    assert "ports" not in runtime(runtime=IMAGE)


def test_a_runtime_cannot_have_a_port_of_ours() -> None:
    assert set(OUR_PORTS) == {CONTAINER_PORT, GATEWAY_PORT, METRICS_PORT}
    with pytest.raises(ValueError, match="choose another port"):
        objects(runtime={**IMAGE, "port": 8089})


def test_no_key_is_needed_with_a_runtime() -> None:
    assert objects(agent={}, runtime=IMAGE)["ConfigMap", "hello"]["data"]["MODEL_PROVIDER"] == "anthropic"
    with pytest.raises(ValueError, match="needs a key"):
        objects(agent={})
