"""Rules that a JSON Schema cannot express: the agent's chart rejects what the API server would, with its message."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from agent_operator.api.crd import SCALE_RULE, crd
from agent_operator.api.mcp import ServerRef
from agent_operator.api.runtime import TMP_DIR
from agent_operator.api.schema import structural
from agent_operator.api.spec import AgentSpec
from agent_operator.api.validation import InvalidAgentError, parse
from testbed import paths
from testbed.errors import TestbedError

CHART = str(paths.REPOSITORY / "helm" / "agent")
Helm = Callable[..., str]

REDIS = {"url": "redis://redis"}
PRICES = {"claude-sonnet-5-5": {"input": "3", "output": "15"}}
CLOUD = {"secretName": "cloud"}
PLACE = {"region": "eu-west-1"}
FALLBACK = {"provider": "bedrock", "bedrock": {"region": "eu-west-1"}, "credentials": CLOUD}
OF_ANTHROPIC = {"provider": "anthropic"}
OWN = {"apiKey": {"secretName": "own"}}
KEYS = "each key must be a qualified name"
CODE = {"configMapKeyRef": {"name": "code", "key": "agent.py"}}
TMP = {"name": "runtime-tmp", "mountPath": "/data"}
KEY = {"name": "mcp", "key": "token"}
HEADER = {"name": "Authorization", "secretKeyRef": KEY}
GRANT = {"tokenUrl": "https://login.example.com", "clientId": "me", "clientSecretKeyRef": KEY}


def of_server(**mcp: Any) -> dict[str, Any]:
    """Return an entry of the tools with a server."""
    return {"name": "a", "mcp": {"url": "http://clock.tools:8080/mcp"} | mcp}


def beside(**sidecar: Any) -> dict[str, Any]:
    """Return an entry of the tools with a container."""
    return {"name": "a", "mcp": {"sidecar": {"image": "x"} | sidecar}}


BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("metadata.name must be at most 53", {"fullnameOverride": "1-agent"}),
    ("set apiKey.secretName or apiKey.value, not both", {"apiKey": {"secretName": "a", "value": "b"}}),
    ("provider anthropic needs a key", {"agent": {"provider": "anthropic"}}),
    ("provider bedrock needs to know where it is", {"agent": {"provider": "bedrock", "credentials": CLOUD}}),
    ("provider vertex needs to know where it is", {"agent": {"provider": "vertex", "credentials": CLOUD}}),
    ("provider foundry needs to know where it is", {"agent": {"provider": "foundry", "credentials": CLOUD}}),
    ("a provider in a cloud needs credentials", {"agent": {"provider": "bedrock", "bedrock": {"region": "eu-west-1"}}}),
    ("provider echo always answers", {"agent": {"provider": "echo", "fallbacks": [FALLBACK]}}),
    (
        "two entries of agent.fallbacks are the same",
        {"agent": {**OF_ANTHROPIC, "fallbacks": [FALLBACK, FALLBACK]}, **OWN},
    ),
    (
        "a fallback has the block of its provider",
        {"agent": {**OF_ANTHROPIC, "fallbacks": [{"provider": "vertex", "credentials": CLOUD}]}, **OWN},
    ),
    (
        "a fallback has the block of its provider",
        {"agent": {**OF_ANTHROPIC, "fallbacks": [{**FALLBACK, "foundry": {"resource": "one"}}]}, **OWN},
    ),
    (
        "a fallback needs credentials",
        {"agent": {**OF_ANTHROPIC, "fallbacks": [{"provider": "foundry", "foundry": {"resource": "one"}}]}, **OWN},
    ),
    (
        "budget.cost needs the prices of agent.model",
        {
            "agent": {**OF_ANTHROPIC, "fallbacks": [{**FALLBACK, "model": "other"}]},
            "budget": {"cost": "1", "prices": PRICES},
            "redis": REDIS,
            **OWN,
        },
    ),
    (
        "set agent.credentials.secretName or agent.credentials.workloadIdentity",
        {"agent": {"provider": "echo", "credentials": {}}},
    ),
    (
        "agent.credentials.workloadIdentity needs to know who trusts the token",
        {"agent": {"provider": "bedrock", "bedrock": PLACE, "credentials": {"workloadIdentity": {}}}},
    ),
    (
        "agent.foundry needs the resource or its address",
        {"agent": {"provider": "echo", "foundry": {"modelIds": {"a": "b"}}}},
    ),
    (
        "each key of modelIds",
        {"agent": {"provider": "echo", "bedrock": {"region": "eu-west-1", "modelIds": {"a b": "c"}}}},
    ),
    (
        "autoscaling.minReplicas must not exceed autoscaling.maxReplicas",
        {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}},
    ),
    ("rollout.maxSurge and rollout.maxUnavailable", {"rollout": {"maxSurge": "0%", "maxUnavailable": 0}}),
    (KEYS, {"nodeSelector": {"a b": "x"}}),
    (KEYS, {"podAnnotations": {"/x": "x"}}),
    (KEYS, {"podLabels": {"Example.com/x": "x"}}),
    (KEYS, {"service": {"annotations": {"x" * 64: "x"}}}),
    (KEYS, {"resources": {"requests": {"cpu!": 1}}}),
    (KEYS, {"resources": {"limits": {"-cpu": 1}}}),
    (KEYS, {"worker": {"resources": {"limits": {"-cpu": 1}}}}),
    (KEYS, {"ingress": {"annotations": {"a b": "x"}}}),
    (KEYS, {"httpRoute": {"annotations": {"a b": "x"}}}),
    (KEYS, {"serviceAccount": {"annotations": {"a b": "x"}}}),
    (KEYS, {"monitoring": {"serviceMonitor": {"labels": {"a b": "x"}}}}),
    ("worker.autoscaling.minReplicas must not", {"worker": {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}}),
    (
        "set agent.systemPrompt or agent.systemPromptFrom",
        {
            "agent": {
                "provider": "echo",
                "systemPrompt": "x",
                "systemPromptFrom": {"configMapKeyRef": {"name": "a", "key": "b"}},
            }
        },
    ),
    ("set redis.url or redis.secretName, not both", {"redis": {"url": "redis://a", "secretName": "b"}}),
    *(
        ("redis.url must not contain a password", {"redis": {"url": url}})
        for url in (
            "redis://:x@a",
            "redis://a/0?password=x",
            "redis://a?db=0&password=x",
            "redis://a?p%61ssword=x",
            "rediss://a?ssl_password=x",
            "redis://a?db=0;password=x",
            "redis://a#password=x",
        )
    ),
    ("worker.enabled needs redis", {"worker": {"enabled": True}}),
    (
        "set autoscaling.prometheusAddress",
        {"autoscaling": {"enabled": True, "engine": "keda", "targetInFlightRequests": 5}},
    ),
    (
        "set autoscaling.prometheusAddress",
        {
            "autoscaling": {"engine": "keda"},
            "worker": {"enabled": True, "autoscaling": {"enabled": True}},
            "redis": REDIS,
        },
    ),
    ("budget needs a limit", {"budget": {"period": "day"}, "redis": REDIS}),
    ("budget needs redis", {"budget": {"tokens": 1}}),
    ("budget.cost must be more than 0", {"budget": {"cost": "0.00", "prices": PRICES}, "redis": REDIS}),
    ("budget.cost needs the prices of agent.model", {"budget": {"cost": "1"}, "redis": REDIS}),
    (
        "budget.cost needs the prices of agent.model",
        {"agent": {"provider": "echo", "model": "other"}, "budget": {"cost": "1", "prices": PRICES}, "redis": REDIS},
    ),
    ("httpRoute.enabled needs httpRoute.parentRefs", {"httpRoute": {"enabled": True}}),
    ("cors.allowCredentials cannot be combined with", {"cors": {"origins": ["*"], "allowCredentials": True}}),
    *(
        (
            "scrapeTimeout must not exceed",
            {"monitoring": {"serviceMonitor": {"interval": every, "scrapeTimeout": limit}}},
        )
        for every, limit in (("30s", "31s"), ("1m", "60001ms"), ("999ms", "1s"), ("59m", "1h"))
    ),
    (
        "a variable has value or valueFrom",
        {"extraEnv": [{"name": "A", "value": "", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
    ),
    ("set exactly one of configMapRef and secretRef", {"envFrom": [{"prefix": "A_"}]}),
    (
        "set exactly one of configMapRef and secretRef",
        {"envFrom": [{"configMapRef": {"name": "a"}, "secretRef": {"name": "a"}}]},
    ),
    ("the volumes tmp and secrets", {"extraVolumes": [{"name": "secrets", "emptyDir": {}}]}),
    (
        "the folders /tmp and /etc/portside/secrets are mounted by Portside",
        {"extraVolumeMounts": [{"name": "a", "mountPath": "/etc/portside/secrets"}]},
    ),
    ("the container agent is", {"sidecars": [{"name": "agent", "image": "x"}]}),
    ("the container agent is", {"initContainers": [{"name": "agent", "image": "x"}]}),
    (
        "have the same name: rename one",
        {"initContainers": [{"name": "a", "image": "x"}], "sidecars": [{"name": "a", "image": "x"}]},
    ),
    (
        "a mount in extraVolumeMounts refers to an unknown volume",
        {"extraVolumeMounts": [{"name": "a", "mountPath": "/a"}]},
    ),
    (
        "a mount in extraVolumeMounts refers to an unknown volume",
        {"extraVolumes": [{"name": "a", "emptyDir": {}}], "extraVolumeMounts": [{"name": "b", "mountPath": "/a"}]},
    ),
    (
        "labels under app.kubernetes.io/ are set by Portside",
        {"monitoring": {"serviceMonitor": {"labels": {"app.kubernetes.io/name": "x"}}}},
    ),
    ("labels under app.kubernetes.io/ are set by Portside", {"podLabels": {"app.kubernetes.io/instance": "x"}}),
    ("set exactly one of runtime.image", {"runtime": {}}),
    ("set exactly one of runtime.image", {"runtime": {"image": "a", "code": CODE}}),
    ("have no effect with runtime.code", {"runtime": {"code": CODE, "command": []}}),
    ("have no effect with runtime.code", {"runtime": {"code": CODE, "args": ["x"]}}),
    ("have no effect with runtime.code", {"runtime": {"code": CODE, "imagePullPolicy": "Always"}}),
    *(("runtime.port must not be", {"runtime": {"image": "a", "port": port}}) for port in (8000, 8089, 9090)),
    ("the runtime's folders /tmp", {"runtime": {"image": "a", "volumeMounts": [TMP | {"mountPath": TMP_DIR}]}}),
    *(
        ("the container runtime is", {"runtime": {"image": "a"}, place: [{"name": "runtime", "image": "x"}]})
        for place in ("sidecars", "initContainers")
    ),
    (
        "the volumes runtime-tmp, runtime-code and",
        {"runtime": {"image": "a"}, "extraVolumes": [{"name": "runtime-code", "emptyDir": {}}]},
    ),
    (
        "a mount in runtime.volumeMounts refers to an unknown volume",
        {"runtime": {"image": "a", "volumeMounts": [TMP | {"name": "secrets"}]}},
    ),
    (KEYS, {"runtime": {"image": "a", "resources": {"limits": {"-cpu": 1}}}}),
    (
        "a variable has value or valueFrom",
        {"runtime": {"image": "a", "env": [{"name": "A", "value": "", "valueFrom": {}}]}},
    ),
    ("set exactly one of configMapRef and secretRef", {"runtime": {"image": "a", "envFrom": [{"prefix": "A_"}]}}),
    ("set exactly one of mcp (a server), builtin", {"tools": [{"name": "a"}]}),
    ("have no effect with builtin", {"tools": [{"name": "a", "builtin": "web_search", "onUnavailable": "fail"}]}),
    (
        "two entries of tools have the same builtin",
        {"tools": [{"name": name, "builtin": "web_search"} for name in ("a", "b")]},
    ),
    ("have no effect with builtin", {"tools": [{"name": "a", "builtin": "web_search", "approve": ["b"]}]}),
    ("set exactly one of mcp.url", {"tools": [{"name": "a", "mcp": {}}]}),
    ("set exactly one of mcp.url", {"tools": [of_server(sidecar={"image": "x"})]}),
    *(
        ("a request has one header Authorization", {"tools": [of_server(headersFrom=[HEADER], **more)]})
        for more in ({"forwardCaller": True}, {"auth": {"clientCredentials": GRANT}})
    ),
    (
        "two headers in mcp.headersFrom have the same name",
        {"tools": [of_server(headersFrom=[HEADER, HEADER | {"name": "authorization"}])]},
    ),
    ("the client of the server sets itself", {"tools": [of_server(headersFrom=[HEADER | {"name": "Accept"}])]}),
    (
        "set exactly one of clientId and clientIdSecretKeyRef",
        {"tools": [of_server(auth={"clientCredentials": GRANT | {"clientIdSecretKeyRef": KEY}})]},
    ),
    *(("the port of a tool must not be", {"tools": [beside(port=port)]}) for port in (8000, 8089, 9090)),
    ("the port of a tool must not be", {"tools": [{"name": "a", "code": CODE | {"port": 8000}}]}),
    ("two entries of tools have the same port", {"tools": [beside(), {"name": "b", "code": CODE}]}),
    ("the port of a tool is that of the runtime", {"tools": [beside(port=8080)], "runtime": {"image": "a"}}),
    *(
        (
            "containers whose names begin with tool- are",
            {"tools": [of_server()], place: [{"name": "tool-a", "image": "x"}]},
        )
        for place in ("sidecars", "initContainers")
    ),
    *(
        (
            "the volume tools and those whose names begin",
            {"tools": [of_server()], "extraVolumes": [{"name": name, "emptyDir": {}}]},
        )
        for name in ("tools", "tool-secrets")
    ),
    (
        "with tools, the folders /etc/portside/tools",
        {
            "tools": [of_server()],
            "extraVolumes": [{"name": "a", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "a", "mountPath": "/etc/portside/tools"}],
        },
    ),
    (
        "a mount in the sidecar of a tool refers to an unknown volume",
        {"tools": [beside(volumeMounts=[{"name": "tmp", "mountPath": "/a"}])]},
    ),
    (
        "the folders /tmp and /etc/portside/secrets are mounted by Portside",
        {"tools": [beside(volumeMounts=[{"name": "a", "mountPath": TMP_DIR}])]},
    ),
    ("a variable has value or valueFrom", {"tools": [beside(env=[{"name": "A", "value": "", "valueFrom": {}}])]}),
    ("set exactly one of configMapRef and secretRef", {"tools": [beside(envFrom=[{"prefix": "A_"}])]}),
    (KEYS, {"tools": [beside(resources={"limits": {"-cpu": 1}})]}),
    (
        "api.clientTools needs api.openai or api.anthropic",
        {"api": {"clientTools": True, "openai": False, "anthropic": False}},
    ),
    ("api.clientTools needs the built-in agent", {"api": {"clientTools": True}, "runtime": {"image": "a"}}),
    ("api has no effect with runtime.protocol http", {"api": {}, "runtime": {"image": "a", "protocol": "http"}}),
    ("budget.perClient and perTenant need a limit above 0", {"budget": {"perClient": {"cost": "0.0"}}, "redis": REDIS}),
    ("operator Exists takes no value", {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}),
    ("without a key needs operator Exists", {"tolerations": [{"value": "b"}]}),
    ("tolerationSeconds needs effect NoExecute", {"tolerations": [{"key": "a", "tolerationSeconds": 0}]}),
]


AGENT = {"apiVersion": "portside.dev/v1alpha1", "kind": "AgentDeployment", "metadata": {"name": "my-agent"}}
ENTRIES: dict[str, Any] = {
    "name": "a",
    "image": "x",
    "emptyDir": {},
    "mountPath": "/a",
    "topologyKey": "zone",
    "issuer": "https://a.example",
    "audiences": ["a"],
}


def lists_without_repeats(schema: Any = None, path: str = "") -> Iterator[str]:
    """Yield the paths of the definition's lists in which the API server rejects duplicate entries."""
    schema = structural(AgentSpec) if schema is None else schema
    for name, child in schema.get("properties", {}).items():
        if child.get("x-kubernetes-list-type") in {"map", "set"}:
            yield f"{path}{name}"
        yield from lists_without_repeats(child, f"{path}{name}.")


# Valid entries of lists of texts, where "a" is none.
TEXTS = {"trustedProxies": "10.0.0.0/8", "origins": "*", "approvers": "0123456789abcdef"}


def merged(values: dict[str, Any], repeated: str) -> dict[str, Any]:
    """Return the values with a duplicate entry in the list at that path, once with its defaults written out."""
    *sections, field = repeated.split(".")
    schema, inner = structural(AgentSpec), values
    for section in sections:
        schema, inner = schema["properties"][section], inner.setdefault(section, {})
    items = schema["properties"][field]["items"]
    if items["type"] == "string":
        inner[field] = [TEXTS.get(field, "a")] * 2
    else:
        entry = {key: value for key, value in ENTRIES.items() if key in items["required"]}
        entry |= {"emptyDir": {}} if field == "extraVolumes" else {}
        entry |= of_server() if field == "tools" else {}
        defaults = {name: child["default"] for name, child in items["properties"].items() if "default" in child}
        inner[field] = [entry, entry | defaults]
    return values


@pytest.mark.parametrize(("sentence", "broken"), BROKEN)
def test_a_broken_rule_is_rejected_with_the_message_of_the_api_server(
    helm: Helm, sentence: str, broken: dict[str, Any]
) -> None:
    (whole,) = {message for message in _sentences(crd()) if sentence in message}
    with pytest.raises(TestbedError) as refused:
        helm("template", "my-agent", CHART, "-f", "-", stdin=json.dumps({"agent": {"provider": "echo"}} | broken))
    assert whole in str(refused.value)


@pytest.mark.parametrize("repeated", sorted(lists_without_repeats()))
def test_a_duplicate_entry_in_a_list_is_rejected_by_the_chart_and_the_api_server(helm: Helm, repeated: str) -> None:
    values: dict[str, Any] = {"agent": {"provider": "echo"}, "extraVolumes": [{"name": "a", "emptyDir": {}}]}
    values = merged(values | ({"runtime": {"image": "a"}} if repeated.startswith("runtime.") else {}), repeated)
    with pytest.raises(InvalidAgentError) as refused:
        parse({**AGENT, "spec": values})
    ((fault),) = refused.value.faults
    assert fault.field == f"spec.{repeated}[1]"
    with pytest.raises(TestbedError) as failed:
        helm("template", "my-agent", CHART, "-f", "-", stdin=json.dumps(values))
    assert f"{repeated}[1] {fault.message}" in str(failed.value)


@pytest.mark.parametrize(
    ("field", "tool"),
    [
        ("allow[1]", of_server() | {"allow": ["a", "a"]}),
        ("approve[1]", of_server() | {"approve": ["a", "a"]}),
        ("mcp.auth.clientCredentials.scopes[1]", of_server(auth={"clientCredentials": GRANT | {"scopes": ["a", "a"]}})),
        ("mcp.sidecar.env[1]", beside(env=[{"name": "A"}, {"name": "A"}])),
    ],
)
def test_a_duplicate_entry_inside_a_tool_is_rejected(helm: Helm, field: str, tool: dict[str, Any]) -> None:
    values = {"agent": {"provider": "echo"}, "tools": [tool]}
    with pytest.raises(InvalidAgentError) as refused:
        parse({**AGENT, "spec": values})
    ((fault),) = refused.value.faults
    assert fault.field == f"spec.tools[0].{field}"
    with pytest.raises(TestbedError) as failed:
        helm("template", "my-agent", CHART, "-f", "-", stdin=json.dumps(values))
    assert f"tools[0].{field} {fault.message}" in str(failed.value)


def test_every_rule_of_the_definition_is_covered() -> None:
    untried = {each for each in _sentences(crd()) if not any(sentence in each for sentence, _ in BROKEN)}
    # A chart does not see the old object, and refuses every reference to a server.
    references = {rule.message for rule in ServerRef.rules}
    assert untried == {SCALE_RULE.message, *references}


def test_a_null_that_removes_a_default_is_rejected_with_the_name_of_the_field(helm: Helm) -> None:
    defaults = yaml.safe_load((paths.REPOSITORY / "helm" / "agent" / "values.yaml").read_text())
    silent = []
    for path in _with_a_default(defaults):
        values: dict[str, Any] = {"agent": {"provider": "echo"}}
        *sections, field = path
        inner = values
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[field] = None
        with pytest.raises(TestbedError) as refused:
            helm("template", "my-agent", CHART, "-f", "-", stdin=json.dumps(values))
        if f"{'.'.join(path)} is null, which takes its default away" not in str(refused.value):
            silent.append(f"{'.'.join(path)}: {refused.value}")
    assert silent == []


def test_a_null_where_only_the_chart_has_a_default_means_that_default(helm: Helm) -> None:
    values: dict[str, Any] = {"agent": {"provider": "echo"}}
    nulls = {"nameOverride": None, "fullnameOverride": None, "extraObjects": None}
    plain, with_nulls = (
        helm("template", "my-agent", CHART, "-f", "-", stdin=json.dumps(each)) for each in (values, values | nulls)
    )
    assert plain == with_nulls


def test_keys_tolerations_and_times_within_the_rules_are_accepted(helm: Helm) -> None:
    values = {
        "agent": {"provider": "echo"},
        "podLabels": {"example.com/Team_1": "", "a": "b"},
        "podAnnotations": {"app.kubernetes.io/anything": "annotations are the user's"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "monitoring": {"serviceMonitor": {"interval": "999999h", "scrapeTimeout": "999999h"}},
        "tolerations": [
            {"operator": "Exists"},
            {"key": "a", "value": ""},
            {"key": "b", "effect": "NoExecute", "tolerationSeconds": 0},
        ],
    }
    assert "nvidia.com/gpu" in helm("template", "my-agent", CHART, "-f", "-", stdin=json.dumps(values))


def _with_a_default(values: dict[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    """Yield the paths of the sections and fields with a default, without those that only the chart offers."""
    for name, value in values.items():
        if name not in {"nameOverride", "fullnameOverride", "extraObjects"}:
            yield (*above, name)
            if isinstance(value, dict):
                yield from _with_a_default(value, *above, name)


def _sentences(schema: object) -> Iterator[str]:
    """Yield the messages of all `x-kubernetes-validations` below."""
    if isinstance(schema, dict):
        yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", []))
        for child in schema.values():
            yield from _sentences(child)
    elif isinstance(schema, list):
        for child in schema:
            yield from _sentences(child)
