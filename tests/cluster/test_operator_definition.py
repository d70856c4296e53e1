"""The CustomResourceDefinition at a real API server: what it rejects, with which message, and its defaults."""

import json
from typing import Any

import pytest

from agent_operator.api.schema import structural
from agent_operator.api.spec import AgentSpec
from support.operator import Namespace, agent, install_definition
from testbed.cluster import Cluster
from testbed.errors import TestbedError

RUNTIME: dict[str, Any] = {"image": "example.com/agent:1"}
REMOTE = {"group": "kagent.dev", "kind": "RemoteMCPServer", "name": "clock"}
HEADER = {"name": "Authorization", "secretKeyRef": {"name": "mcp-token", "key": "token"}}
GRANT = {
    "tokenUrl": "https://login.example.com/token",
    "clientId": "me",
    "clientSecretKeyRef": {"name": "client", "key": "secret"},
    "scopes": ["read"],
    "audience": "mcp",
    "resource": "https://mcp.example.com",
}


def tool(**mcp: Any) -> dict[str, Any]:
    """Return an entry of the tools with a server."""
    return {"name": "a", "mcp": {"url": "http://clock.tools:8080/mcp"} | mcp}


def beside(name: str, **sidecar: Any) -> dict[str, Any]:
    """Return an entry of the tools with a container."""
    return {"name": name, "mcp": {"sidecar": {"image": "example.com/clock:1"} | sidecar}}


TOOL = tool()
CODE = {"configMapKeyRef": {"name": "code", "key": "agent.py"}}


@pytest.fixture(scope="module")
def definition(control_plane: Cluster) -> None:
    """Install the definition."""
    install_definition(control_plane)


@pytest.fixture
def here(control_plane: Cluster, namespace: str, definition: None) -> Namespace:
    """A fresh namespace of a cluster that has the definition; no operator runs."""
    return Namespace(control_plane, namespace)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            {"agent": {"provider": "anthropic"}},
            "provider anthropic needs a key: set apiKey.secretName to a Secret that contains it",
        ),
        (
            {"apiKey": {"value": "a", "secretName": "b"}},
            "set apiKey.secretName or apiKey.value, not both: remove one of them",
        ),
        (
            {"autoscaling": {"minReplicas": 11}},
            "autoscaling.minReplicas must not exceed autoscaling.maxReplicas: lower one or raise the other",
        ),
        ({"rollout": {"maxSurge": 0}}, "as no pod could be replaced: raise one"),
        ({"rollout": {"maxSurge": "0%", "maxUnavailable": "0%"}}, "as no pod could be replaced: raise one"),
        ({"podLabels": {"app.kubernetes.io/name": "x"}}, "labels under app.kubernetes.io/ are set by Portside"),
        ({"nodeSelector": {"a b": "x"}}, "each key must be a qualified name"),
        (
            {"monitoring": {"serviceMonitor": {"scrapeTimeout": "1m"}}},
            "monitoring.serviceMonitor.scrapeTimeout must not exceed monitoring.serviceMonitor.interval",
        ),
        ({"tolerations": [{"operator": "Exists", "value": "x"}]}, "a toleration with operator Exists takes no value"),
        ({"tolerations": [{"value": "x"}]}, "a toleration without a key needs operator Exists"),
        ({"tolerations": [{"key": "a", "tolerationSeconds": 3}]}, "tolerationSeconds needs effect NoExecute"),
        (
            {
                "agent": {
                    "provider": "echo",
                    "systemPrompt": "a",
                    "systemPromptFrom": {"configMapKeyRef": {"name": "a", "key": "b"}},
                }
            },
            "set agent.systemPrompt or agent.systemPromptFrom, not both",
        ),
        ({"worker": {"enabled": True}}, "worker.enabled needs redis, which stores the tasks"),
        ({"redis": {"url": "redis://:secret@state:6379"}}, "redis.url must not contain a password"),
        ({"redis": {"url": "redis://state:6379?db=1&p%61ssword=secret"}}, "redis.url must not contain a password"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.enabled needs httpRoute.parentRefs"),
        (
            {"cors": {"origins": ["*"], "allowCredentials": True}},
            "cors.allowCredentials cannot be combined with the origin *",
        ),
        ({"extraVolumes": [{"name": "tmp", "emptyDir": {}}]}, "the volumes tmp and secrets are Portside's own"),
        ({"sidecars": [{"name": "agent", "image": "x"}]}, "the container agent is Portside's own"),
        (
            {"extraVolumeMounts": [{"name": "a", "mountPath": "/etc/portside/secrets"}]},
            "are mounted by Portside: choose another mountPath",
        ),
        ({"runtime": {}}, "set exactly one of runtime.image"),
        ({"runtime": RUNTIME | {"code": CODE}}, "set exactly one of runtime.image"),
        ({"runtime": {"code": CODE, "args": []}}, "have no effect with runtime.code"),
        ({"runtime": RUNTIME | {"port": 9090}}, "runtime.port must not be 8000, 8089 or 9090"),
        (
            {"runtime": RUNTIME, "sidecars": [{"name": "runtime", "image": "x"}]},
            "with a runtime, the container runtime is Portside's own",
        ),
        (
            {"runtime": RUNTIME, "extraVolumes": [{"name": "runtime-tmp", "emptyDir": {}}]},
            "the volumes runtime-tmp, runtime-code and runtime-prompt are Portside's own",
        ),
        (
            {"runtime": RUNTIME | {"volumeMounts": [{"name": "secrets", "mountPath": "/a"}]}},
            "a mount in runtime.volumeMounts refers to an unknown volume",
        ),
        (
            {"runtime": RUNTIME | {"volumeMounts": [{"name": "runtime-tmp", "mountPath": "/etc/portside/agent"}]}},
            "belong to Portside: choose another mountPath",
        ),
        ({"tools": [{"name": "a"}]}, "set exactly one of mcp (a server), builtin"),
        ({"tools": [{"name": "a", "mcp": {}}]}, "set exactly one of mcp.url"),
        ({"tools": [{"name": "a", "builtin": "web_search", "allow": []}]}, "have no effect with builtin"),
        ({"tools": [{"name": "a", "builtin": "web_search", "approve": ["b"]}]}, "have no effect with builtin"),
        ({"approvals": {"approvers": ["my key"]}}, "should match '^([0-9a-f]{16}|"),
        ({"approvals": {"approvers": ["0123456789abcdef"] * 2}}, "spec.approvals.approvers: duplicate entries for key"),
        ({"approvals": {"ttlSeconds": 604801}}, "should be less than or equal to 604800"),
        (
            {"tools": [{"name": name, "builtin": "web_search"} for name in ("a", "b")]},
            "two entries of tools have the same builtin",
        ),
        ({"tools": [TOOL, TOOL]}, ".spec.tools: duplicate entries for key"),
        ({"tools": [TOOL | {"name": "b" * 33}]}, "spec.tools[0].name"),
        ({"tools": [tool(url="http://a/#b")]}, "spec.tools[0].mcp.url"),
        ({"tools": [tool(headersFrom=[HEADER], forwardCaller=True)]}, "a request has one header Authorization"),
        ({"tools": [tool(headersFrom=[HEADER, HEADER | {"name": "AUTHORIZATION"}])]}, "have the same name, in which"),
        ({"tools": [tool(headersFrom=[HEADER | {"name": "Host"}])]}, "the client of the server sets itself"),
        (
            {"tools": [{"name": "a", "mcp": {"serverRef": REMOTE | {"group": "toolhive.stacklok.dev"}}}]},
            "the kind RemoteMCPServer belongs to the group kagent.dev",
        ),
        ({"tools": [beside("a", port=8089)]}, "must not be 8000, 8089 or 9090"),
        ({"tools": [beside("a"), beside("b")]}, "two entries of tools have the same port"),
        ({"tools": [beside("a", port=8080)], "runtime": RUNTIME}, "the port of a tool is that of the runtime"),
        ({"tools": [TOOL], "sidecars": [{"name": "tool-a", "image": "x"}]}, "names begin with tool- are Portside's"),
        ({"tools": [TOOL], "extraVolumes": [{"name": "tools", "emptyDir": {}}]}, "the volume tools and those whose"),
        (
            {"tools": [beside("a", volumeMounts=[{"name": "secrets", "mountPath": "/a"}])]},
            "a mount in the sidecar of a tool refers to an unknown volume",
        ),
        (
            {
                "tools": [TOOL],
                "extraVolumes": [{"name": "a", "emptyDir": {}}],
                "extraVolumeMounts": [{"name": "a", "mountPath": "/etc/portside/tools"}],
            },
            "with tools, the folders",
        ),
        (
            {"api": {"clientTools": True, "openai": False, "anthropic": False}},
            "api.clientTools needs api.openai or api.anthropic",
        ),
        ({"api": {"clientTools": True}, "runtime": {"image": "a"}}, "api.clientTools needs the built-in agent"),
        ({"api": {"mcp": True}, "runtime": {"image": "a", "protocol": "http"}}, "api has no effect with runtime"),
        ({"api": {"maxBodyBytes": 0}}, "should be greater than or equal to 1024"),
        ({"service": {"appProtocol": "a b"}}, "spec.service.appProtocol"),
        ({"agent": {"provider": "echo", "maxSteps": 101}}, "should be less than or equal to 100"),
        ({"agent": {"provider": "echo", "models": ["a,b"]}}, "spec.agent.models[0]"),
        ({"image": {"digest": "sha256:abc"}}, "should match '^sha256:[0-9a-f]{64}$'"),
        ({"agent": {"provider": "openai"}}, 'supported values: "anthropic", "bedrock"'),
        ({"agent": {"provider": "echo", "maxTokens": 0}}, "should be greater than or equal to 1"),
        ({"replicas": "2"}, ".spec.replicas: expected numeric (int or float), got string"),
        ({"resources": {"limits": {"memory": "1Q"}}}, "spec.resources.limits.memory"),
        ({"agent": {"provider": "echo", "modl": "x"}}, ".spec.agent.modl: field not declared in schema"),
    ],
)
def test_an_invalid_spec_is_rejected_with_a_message(here: Namespace, spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TestbedError) as refused:
        here.apply(agent(**spec))

    assert sentence in str(refused.value)


@pytest.mark.parametrize("name", ["a.b", "1a", "a" * 54])
def test_a_name_that_no_service_can_have_is_rejected(here: Namespace, name: str) -> None:
    with pytest.raises(TestbedError, match="because it becomes the name of the Service: choose another name"):
        here.apply(agent(name))


def test_the_longest_name_is_accepted(here: Namespace) -> None:
    here.apply(agent("a" * 53))


def test_the_api_server_sets_the_same_defaults_as_the_operator(here: Namespace) -> None:
    here.apply(agent())

    given = here.get("agentdeployment")["spec"]

    known = AgentSpec.model_validate({"agent": {"provider": "echo"}}).model_dump(by_alias=True)
    assert given == _without_nulls(known)


def test_every_field_is_explained(here: Namespace) -> None:
    text = here.kubectl("explain", "agentdeployment.spec.agent", "--recursive=false")

    assert "Instructions that the model receives before every conversation." in text
    tokens = " ".join(text.partition("maxTokens")[2].partition("\n\n")[0].split())
    assert "From 1 to 128000. Default: 4096." in tokens


def test_a_spec_with_every_field_is_accepted_unchanged(here: Namespace) -> None:
    spec: dict[str, Any] = {
        "className": "standard",
        "image": {"repository": "example.com/x", "tag": "1", "digest": f"sha256:{'0' * 64}", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "pull"}],
        "runtime": {
            "image": "example.com/agent:1",
            "imagePullPolicy": "Always",
            "command": ["agent"],
            "args": ["--port", "$(PORT)"],
            "env": [{"name": "A", "value": "b"}],
            "envFrom": [{"secretRef": {"name": "more"}}],
            "workingDir": "/app",
            "volumeMounts": [{"name": "runtime-tmp", "mountPath": "/var/cache", "subPath": "cache"}],
            "resources": {"requests": {"cpu": "1"}},
            "securityContext": {"runAsUser": 1000},
            "protocol": "openai",
            "port": 8081,
            "path": "/v1/chat/completions",
            "healthPath": "/up",
            "startupSeconds": 600,
            "maxTokens": 1000,
            "promptCaching": False,
        },
        "tools": [
            {
                "name": "remote",
                "mcp": {
                    "url": "https://mcp.example.com/mcp?tenant=a",
                    "headersFrom": [HEADER | {"name": "X-Key"}],
                    "auth": {"clientCredentials": GRANT},
                    "forwardCaller": False,
                    "allowLinkLocal": True,
                },
                "allow": ["get_*"],
                "approve": ["get_secret_*"],
                "timeoutSeconds": 5,
                "maxResultBytes": 4096,
                "onUnavailable": "fail",
            },
            {"name": "reference", "mcp": {"serverRef": REMOTE | {"namespace": "tools"}}},
            {
                "name": "beside",
                "mcp": {
                    "sidecar": {
                        "image": "example.com/clock:1",
                        "imagePullPolicy": "Always",
                        "command": ["clock"],
                        "args": ["--http"],
                        "env": [{"name": "A", "value": "b"}],
                        "envFrom": [{"configMapRef": {"name": "more"}}],
                        "workingDir": "/app",
                        "port": 9000,
                        "path": "/api/mcp",
                        "resources": {"requests": {"cpu": "1"}},
                        "securityContext": {"runAsUser": 1000},
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                        "startupSeconds": 30,
                    }
                },
            },
            {"name": "search", "builtin": "web_search"},
            {"name": "local", "code": {"configMapKeyRef": {"name": "tools", "key": "tools.py"}, "port": 8091}},
        ],
        "approvals": {"approvers": ["0123456789abcdef"], "ttlSeconds": 600},
        "api": {
            "openai": True,
            "anthropic": False,
            "a2a": True,
            "mcp": True,
            "clientTools": False,
            "maxBodyBytes": 1048576,
            "maxInputTokens": 1000,
        },
        "agent": {
            "description": "Knows the berths.",
            "maxSteps": 5,
            "maxToolCalls": 10,
            "models": ["another-model"],
            "provider": "anthropic",
            "model": "some-model",
            "maxTokens": 100,
            "systemPrompt": "Be kind.\nBe brief: ✓",
            "baseUrl": "https://gateway.example.com/v1",
            "bedrock": {
                "region": "eu-central-1",
                "api": "messages",
                "baseUrl": "https://bedrock.example.com",
                "modelIds": {"some-model": "eu.anthropic.some-model:0"},
            },
            "vertex": {
                "project": "agents-1",
                "region": "global",
                "baseUrl": "https://vertex.example.com",
                "modelIds": {"some-model": "some-model@20261101"},
            },
            "foundry": {"resource": "agents", "modelIds": {"some-model": "deployment"}},
            "credentials": {"secretName": "cloud"},
            "requestTimeoutSeconds": 30,
            "streamTimeoutSeconds": 120,
            "environment": "staging",
        },
        "apiKey": {"secretName": "keys", "secretKey": "anthropic"},
        "auth": {
            "enabled": True,
            "existingSecret": "clients",
            "secretKey": "keys",
            "jwt": {
                "issuers": [
                    {
                        "issuer": "https://login.example.com",
                        "jwksUrl": "https://login.example.com/keys",
                        "audiences": ["hello"],
                        "clientClaim": "/app/id",
                        "tenantClaim": "team",
                        "requiredScopes": ["ask"],
                        "clockSkewSeconds": 30,
                    }
                ]
            },
            "usageReaders": ["0123456789abcdef"],
        },
        "replicas": 2,
        "autoscaling": {
            "enabled": True,
            "engine": "keda",
            "prometheusAddress": "https://prometheus.example.com/team",
            "minReplicas": 2,
            "maxReplicas": 4,
            "targetCPUUtilizationPercentage": 60,
            "targetMemoryUtilizationPercentage": 80,
            "targetInFlightRequests": 20,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
        },
        "worker": {
            "enabled": True,
            "replicas": 2,
            "concurrency": 4,
            "resources": {"limits": {"memory": "1Gi"}},
            "autoscaling": {"enabled": True, "minReplicas": 1, "maxReplicas": 3, "targetQueueDepth": 5},
        },
        "redis": {"secretName": "state", "secretKey": "url"},
        "service": {
            "type": "NodePort",
            "port": 8080,
            "annotations": {"example.com/a": "b"},
            "appProtocol": "kgateway.dev/a2a",
        },
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "annotations": {"example.com/a": "b"},
            "hosts": ["agent.example.com"],
            "path": "/agent",
            "pathType": "Prefix",
            "tlsSecretName": "certificate",
        },
        "httpRoute": {
            "enabled": True,
            "annotations": {"example.com/a": "b"},
            "parentRefs": [{"name": "gateway", "namespace": "edge", "sectionName": "https"}],
            "hostnames": ["*.example.com"],
        },
        "rateLimit": {
            "requestsPerMinute": 10,
            "tokensPerMinute": 1000,
            "perClient": {"requestsPerMinute": 60, "tokensPerMinute": 100},
            "perTenant": {"requestsPerMinute": 600, "tokensPerMinute": 1000},
            "trustedProxies": ["10.0.0.0/8", "::1"],
        },
        "cors": {"origins": ["https://app.example.com"], "allowCredentials": True},
        "logging": {"level": "DEBUG", "format": "text"},
        "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"example.com/gpu": "1"}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 3}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "topologySpreadConstraints": [{"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 2}],
        "priorityClassName": "high",
        "serviceAccount": {"create": False, "name": "robot", "annotations": {"example.com/a": "b"}},
        "podAnnotations": {"example.com/a": "b"},
        "podLabels": {"team": "blue"},
        "podSecurityContext": {"runAsNonRoot": True},
        "securityContext": {"readOnlyRootFilesystem": True},
        "extraEnv": [
            {"name": "A", "value": "b"},
            {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "envFrom": [{"prefix": "P_", "secretRef": {"name": "more"}}, {"configMapRef": {"name": "more"}}],
        "extraVolumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "extraVolumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "x", "readOnly": True}],
        "initContainers": [{"name": "first", "image": "busybox", "command": ["true"]}],
        "sidecars": [{"name": "beside", "image": "busybox", "ports": [{"containerPort": 9000}]}],
        "podDisruptionBudget": {"enabled": True, "maxUnavailable": "25%", "minAvailable": 1},
        "networkPolicy": {
            "enabled": True,
            "ingressFrom": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}}],
            "scrapeFrom": [{"podSelector": {}}],
            "redisPort": 6380,
            "extraEgress": [{"ports": [{"port": 4318}]}],
        },
        "monitoring": {
            "serviceMonitor": {
                "enabled": True,
                "interval": "15s",
                "scrapeTimeout": "5s",
                "labels": {"release": "prometheus"},
            },
            "tracing": {"endpoint": "https://collector.example:4318/otlp"},
        },
        "budget": {
            "period": "day",
            "tokens": 10**15,
            "cost": "999999999.999999",
            "perClient": {"tokens": 1000},
            "perTenant": {"tokens": 10_000, "cost": "5"},
            "prices": {"some-model": {"input": "3", "output": "15", "cacheWrite": "3.75", "cacheRead": "0.3"}},
            "action": "warn",
        },
        "rollout": {
            "strategy": "RollingUpdate",
            "maxSurge": "25%",
            "maxUnavailable": 1,
            "terminationGracePeriodSeconds": 30,
        },
    }
    assert spec.keys() == structural(AgentSpec)["properties"].keys()

    here.apply(agent(**spec))

    found = json.loads(here.kubectl("get", "agd", "hello", "-ojson"))["spec"]
    assert AgentSpec.model_validate(found) == AgentSpec.model_validate(spec)


def test_manual_scaling_works_and_is_rejected_with_a_message_while_there_is_an_autoscaler(here: Namespace) -> None:
    here.apply(agent(replicas=2))
    here.kubectl("scale", "agentdeployment", "hello", "--replicas=3")
    assert here.get("agentdeployment")["spec"]["replicas"] == 3

    here.apply(agent(autoscaling={"enabled": True}))
    with pytest.raises(TestbedError, match=r"change autoscaling\.minReplicas or autoscaling\.maxReplicas"):
        here.kubectl("scale", "agentdeployment", "hello", "--replicas=5")


def test_replicas_may_be_left_out_once_there_is_an_autoscaler(here: Namespace) -> None:
    here.apply(agent(replicas=3, autoscaling={"enabled": True}))

    here.apply(agent(autoscaling={"enabled": True}))

    assert here.get("agentdeployment")["spec"]["replicas"] == 1


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value
