"""Valid specs for hypothesis, drawn from the definition's own schema, so that a new field is covered at once."""

import json
import re
from typing import Any

from hypothesis import strategies as st

from agent_operator.api.agent import API_VERSION, KIND
from agent_operator.api.runtime import OUR_PORTS, TMP_VOLUME
from agent_operator.api.schema import INT_OR_STRING, VERBATIM, Schema, structural
from agent_operator.api.spec import DEFAULT_MODEL, AgentSpec
from agent_operator.api.tools import PREFIX, TOOLS_VOLUME

# Longer texts and maps find nothing more and are slow.
MAX_LENGTH = 60
MAX_ITEMS = 3

# None of our ports, and beyond those that other parts of a spec have in the examples.
_PORT_OF_TOOLS = 20_000

KEYS = st.from_regex(r"([a-z]{1,9}\.[a-z]{1,5}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,9}[A-Za-z0-9])?", fullmatch=True)


# What is passed through unchanged: objects of texts, integers, booleans, lists and further objects. Numbers are double
# precision, as Helm reads all of them as floats.
_SCALARS = st.one_of(st.text(st.characters(codec="utf-8"), max_size=9), st.integers(-(2**53), 2**53), st.booleans())
VERBATIM_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2), max_leaves=4
)
VERBATIM_OBJECTS = st.dictionaries(KEYS, VERBATIM_VALUES, max_size=2)


def specs() -> st.SearchStrategy[dict[str, Any]]:
    """Return specs as users write them: any part may be missing; all are valid."""
    return _values(structural(AgentSpec)).map(_keep_rules)


def values_of(schema: Schema) -> st.SearchStrategy[Any]:
    """Return values that a schema accepts; they may break rules."""
    return _values(schema)


def specs_with_tools() -> st.SearchStrategy[dict[str, Any]]:
    """Return specs that have tools, and little else."""
    properties = structural(AgentSpec)["properties"]
    fields = {name: _values(properties[name]) for name in ("tools", "extraVolumes", "approvals")}
    rest = {"agent": {"provider": "echo", "maxSteps": 5}}
    return st.fixed_dictionaries(fields).map(lambda given: _keep_rules({**rest, **given}))


def without_references(spec: dict[str, Any]) -> dict[str, Any]:
    """Replace each `serverRef` by an address: the one field of a spec that the chart refuses."""
    for tool in spec.get("tools", []):
        if "serverRef" in tool.get("mcp", {}):
            reference = tool["mcp"].pop("serverRef")
            tool["mcp"]["url"] = f"http://clock.{reference.get('namespace', 'tools')}:8080/mcp"
    return spec


def agents() -> st.SearchStrategy[dict[str, Any]]:
    """Return whole documents."""
    return specs().map(
        lambda spec: {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "hello"}, "spec": spec}
    )


def _values(schema: Schema) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get(INT_OR_STRING):
        return st.one_of(_texts(schema), _integers(schema))
    if schema["type"] == "object":
        return _objects(schema)
    if schema["type"] == "array":
        keys = schema.get("x-kubernetes-list-map-keys")
        defaults = {name: child.get("default") for name, child in schema["items"].get("properties", {}).items()}
        unique = (lambda item: tuple(item.get(key, defaults[key]) for key in keys)) if keys else None
        if schema.get("x-kubernetes-list-type") == "set":
            unique = lambda item: (json.dumps(item),)  # noqa: E731
        fewest = schema.get("minItems", 0)
        return st.lists(_values(schema["items"]), min_size=fewest, max_size=max(fewest, MAX_ITEMS), unique_by=unique)
    if schema["type"] == "boolean":
        return st.booleans()
    return _texts(schema) if schema["type"] == "string" else _integers(schema)


def _objects(schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
    if "additionalProperties" in schema:
        return st.dictionaries(KEYS, _values(schema["additionalProperties"]), max_size=MAX_ITEMS)
    if "properties" not in schema:
        return VERBATIM_OBJECTS
    fields = {name: _values(child) for name, child in schema["properties"].items()}
    required = {name: fields.pop(name) for name in schema.get("required", [])}
    if schema.get(VERBATIM):
        # A few at a time: a container has many, which in turn have many.
        some = st.lists(st.sampled_from(sorted(fields)), max_size=MAX_ITEMS, unique=True) if fields else st.just([])
        known = some.flatmap(lambda names: st.fixed_dictionaries(required | {name: fields[name] for name in names}))
        return st.builds(lambda more, given: more | given, VERBATIM_OBJECTS, known)
    return st.fixed_dictionaries(required, optional=fields)


def _texts(schema: Schema) -> st.SearchStrategy[str]:
    longest = min(schema["maxLength"], MAX_LENGTH)
    if "pattern" in schema:
        texts = st.from_regex(schema["pattern"].removeprefix("^").removesuffix("$"), fullmatch=True)
        # A pattern may require more than our short length, as a digest does.
        return texts.filter(lambda text: len(text) <= schema["maxLength"])
    return st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=longest)


def _integers(schema: Schema) -> st.SearchStrategy[int]:
    return st.integers(schema.get("minimum"), schema.get("maximum", 10_000))


def _keep_rules(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the nearest spec that satisfies the rules across fields."""
    # A class is another object, so a spec alone names none.
    spec.pop("className", None)
    _keep_rules_of_pods(spec)
    _keep_rules_of_protocols(spec)
    key = spec.get("apiKey", {})
    if "value" in key:
        key.pop("secretName", None)
    provider = spec.get("agent", {}).get("provider", "anthropic")
    has_identity = "workloadIdentity" in spec.get("agent", {}).get("credentials", {})
    has_key = has_identity or bool(key.keys() & {"value", "secretName"})
    needs_key = "runtime" not in spec or "fallbacks" in spec.get("agent", {})
    if provider == "anthropic" and not has_key and needs_key:
        spec["agent"] = {**spec.get("agent", {}), "provider": "echo"}
    _keep_rules_of_providers(spec)
    # Prices are those of the models of all providers.
    _keep_rules_of_traffic(spec)
    _keep_rules_of_scaling(spec)
    monitor = spec.get("monitoring", {}).get("serviceMonitor", {})
    if "scrapeTimeout" in monitor:
        monitor["interval"] = monitor["scrapeTimeout"]
    rollout = spec.get("rollout", {})
    if {rollout.get("maxSurge", 1), rollout.get("maxUnavailable", 0)} <= {0, "0%"}:
        rollout["maxSurge"] = 1
    for toleration in spec.get("tolerations", []):
        if "key" not in toleration:
            toleration["operator"] = "Exists"
        if toleration.get("operator") == "Exists":
            toleration.pop("value", None)
        if "tolerationSeconds" in toleration:
            toleration["effect"] = "NoExecute"
    return spec


def _keep_rules_of_protocols(spec: dict[str, Any]) -> None:
    if spec.get("runtime", {}).get("protocol") == "http":
        spec.pop("api", None)
    api = spec.get("api", {})
    if "runtime" in spec or {api.get("openai"), api.get("anthropic")} == {False}:
        api.pop("clientTools", None)


def _keep_rules_of_scaling(spec: dict[str, Any]) -> None:
    for scaling in (spec.get("autoscaling", {}), spec.get("worker", {}).get("autoscaling", {})):
        low, high = scaling.get("minReplicas", 1), scaling.get("maxReplicas", 10)
        if low > high:
            scaling |= {"minReplicas": high, "maxReplicas": low}
    if spec.get("autoscaling", {}).get("engine") == "keda":
        spec["autoscaling"].setdefault("prometheusAddress", "http://prometheus:9090")


def _keep_rules_of_pods(spec: dict[str, Any]) -> None:
    _keep_rules_of_variables(spec.get("extraEnv", []), spec.get("envFrom", []))
    for volume in spec.get("extraVolumes", []):
        volume["name"] += "0"
        if volume["name"].startswith(PREFIX) or volume["name"] == TOOLS_VOLUME:
            volume["name"] = f"x{volume['name']}"
    volumes = [volume["name"] for volume in spec.get("extraVolumes", [])]
    for mount in spec.get("extraVolumeMounts", []):
        mount["mountPath"] += "0"
        mount["name"] = volumes[0] if volumes else "tmp"
    if "runtime" in spec:
        _keep_rules_of_runtimes(spec["runtime"], volumes)
    _keep_rules_of_tools(spec.get("tools", []), volumes)
    for kind, suffix in (("initContainers", "0"), ("sidecars", "1")):
        for container in spec.get(kind, []):
            container["name"] += suffix
            if container["name"].startswith(PREFIX):
                container["name"] = f"x{container['name']}"
            ports = {(port["containerPort"], port.get("protocol")): port for port in container.get("ports", [])}
            if "ports" in container:
                container["ports"] = list(ports.values())


def _keep_rules_of_variables(variables: list[dict[str, Any]], sources: list[dict[str, Any]]) -> None:
    for variable in variables:
        if "value" in variable:
            variable.pop("valueFrom", None)
    for source in sources:
        if "configMapRef" in source:
            source.pop("secretRef", None)
        source.setdefault("configMapRef", {"name": "x"}) if "secretRef" not in source else None


def _keep_rules_of_runtimes(runtime: dict[str, Any], volumes: list[str]) -> None:
    _keep_rules_of_variables(runtime.get("env", []), runtime.get("envFrom", []))
    for mount in runtime.get("volumeMounts", []):
        mount["mountPath"] += "0"
        mount["name"] = volumes[0] if volumes else TMP_VOLUME
    if "image" in runtime or "code" not in runtime:
        runtime.setdefault("image", "example.com/agent:1")
        runtime.pop("code", None)
    else:
        for field in ("command", "args", "imagePullPolicy"):
            runtime.pop(field, None)
    if runtime.get("port") in OUR_PORTS:
        runtime["port"] += 1
    if "port" in runtime:
        runtime["port"] = min(runtime["port"], _PORT_OF_TOOLS - 1)


def _keep_rules_of_tools(tools: list[dict[str, Any]], volumes: list[str]) -> None:
    for index, tool in enumerate(tools):
        kinds = [kind for kind in ("mcp", "builtin", "code") if kind in tool] or ["builtin"]
        for kind in kinds[1:]:
            del tool[kind]
        if kinds[0] == "builtin":
            tool["builtin"] = ("web_search", "web_fetch", "code_execution")[index]
            for field in ("allow", "approve", "timeoutSeconds", "maxResultBytes", "onUnavailable"):
                tool.pop(field, None)
        if "code" in tool:
            tool["code"]["port"] = _PORT_OF_TOOLS + index
        if "mcp" in tool:
            _keep_rules_of_servers(tool["mcp"], _PORT_OF_TOOLS + index, volumes)


def _keep_rules_of_servers(mcp: dict[str, Any], port: int, volumes: list[str]) -> None:
    kinds = [kind for kind in ("url", "serverRef", "sidecar") if kind in mcp] or ["url"]
    for kind in kinds[1:]:
        del mcp[kind]
    if kinds[0] == "url":
        mcp.setdefault("url", "http://server.tools:8080/mcp")
    if mcp.get("serverRef", {}).get("kind") == "RemoteMCPServer":
        mcp["serverRef"]["group"] = "kagent.dev"
    if "sidecar" in mcp:
        mcp["sidecar"]["port"] = port
        _keep_rules_of_sidecars(mcp["sidecar"], volumes)
    for index, header in enumerate(mcp.get("headersFrom", [])):
        header["name"] += str(index)
    if "auth" in mcp:
        mcp["forwardCaller"] = False
        grant = mcp["auth"]["clientCredentials"]
        if "clientId" in grant:
            grant.pop("clientIdSecretKeyRef", None)
        if "clientIdSecretKeyRef" not in grant:
            grant.setdefault("clientId", "me")


def _keep_rules_of_sidecars(sidecar: dict[str, Any], volumes: list[str]) -> None:
    _keep_rules_of_variables(sidecar.get("env", []), sidecar.get("envFrom", []))
    for mount in sidecar.get("volumeMounts", []):
        mount["mountPath"] += "0"
        mount["name"] = volumes[0] if volumes else ""
    if not volumes:
        sidecar.pop("volumeMounts", None)


def _keep_rules_of_providers(spec: dict[str, Any]) -> None:
    agent = spec.get("agent", {})
    if agent.get("provider") in _BLOCKS:
        agent.setdefault(agent["provider"], dict(_BLOCKS[agent["provider"]]))
        if "runtime" not in spec or "fallbacks" in agent:
            agent.setdefault("credentials", {"secretName": "cloud"})
    if "credentials" in agent:
        _keep_rules_of_credentials(agent["credentials"], agent.get("provider", "anthropic"))
    if agent.get("provider") == "echo":
        agent.pop("fallbacks", None)
    fallbacks = agent.get("fallbacks", [])
    _keep_rules_of_fallbacks(spec, fallbacks)
    for each in (agent, *fallbacks):
        if "foundry" in each:
            each["foundry"].setdefault("resource", "one")
            each["foundry"].pop("baseUrl", None)


_BLOCKS: dict[str, dict[str, str]] = {
    "bedrock": {"region": "eu-west-1"},
    "vertex": {"project": "one", "region": "global"},
    "foundry": {},
}


def _keep_rules_of_fallbacks(spec: dict[str, Any], fallbacks: list[dict[str, Any]]) -> None:
    for number, fallback in enumerate(fallbacks):
        fallback["model"] = f"model-{number}"
        if not _has_credentials(spec, fallback["provider"]):
            fallback.setdefault("credentials", {"secretName": "cloud"})
        for name in _BLOCKS.keys() - {fallback["provider"]}:
            fallback.pop(name, None)
        if fallback["provider"] in _BLOCKS:
            fallback.setdefault(fallback["provider"], dict(_BLOCKS[fallback["provider"]]))


def _has_credentials(spec: dict[str, Any], provider: str) -> bool:
    """Return whether a fallback of this provider needs no credentials of its own."""
    agent = spec["agent"]
    if provider == "anthropic" and spec.get("apiKey", {}).keys() & {"value", "secretName"}:
        return True
    given = agent.get("credentials", {})
    return bool(
        provider == agent.get("provider", "anthropic")
        and (given if provider != "anthropic" else "workloadIdentity" in given)
    )


_IDENTITIES: dict[str, dict[str, str]] = {
    "anthropic": {"federationRuleId": "fdrl_1", "organizationId": "one"},
    "bedrock": {},
    "vertex": {"provider": "projects/1/locations/global/workloadIdentityPools/pool/providers/cluster"},
    "foundry": {"tenantId": "one", "clientId": "two"},
}


def _keep_rules_of_credentials(credentials: dict[str, Any], provider: str) -> None:
    if "workloadIdentity" in credentials:
        credentials.pop("secretName", None)
        if provider in _IDENTITIES:
            credentials["workloadIdentity"].setdefault(provider, _IDENTITIES[provider])
    else:
        credentials.setdefault("secretName", "cloud")


def _keep_rules_of_budgets(budget: dict[str, Any], models: list[str]) -> None:
    shares = [budget[name] for name in ("perClient", "perTenant") if name in budget]
    for limit in (*shares, budget):
        if "cost" not in limit:
            limit.setdefault("tokens", 1)
        elif not limit["cost"].strip("0."):
            limit["cost"] = f"1{limit['cost'][:8]}"
    if any("cost" in limit for limit in (*shares, budget)):
        price = {"input": "3", "output": "15.5", "cacheRead": "0.0"}
        budget["prices"] = {**budget.get("prices", {}), **dict.fromkeys(models, price)}


def _keep_rules_of_traffic(spec: dict[str, Any]) -> None:
    redis = spec.get("redis", {})
    if "url" in redis:
        redis.pop("secretName", None)
        redis["url"] = re.sub(r"[@?&#]", "0", redis["url"])
    if not {"url", "secretName"} & redis.keys():
        spec.get("worker", {})["enabled"] = False
        spec.pop("budget", None)
    if "budget" in spec:
        agent = spec.get("agent", {})
        models = [agent.get("model", DEFAULT_MODEL), *(each["model"] for each in agent.get("fallbacks", []))]
        _keep_rules_of_budgets(spec["budget"], models)
    route = spec.get("httpRoute", {})
    if not route.get("parentRefs"):
        route["enabled"] = False
    cors = spec.get("cors", {})
    if "*" in cors.get("origins", []):
        cors["allowCredentials"] = False
    agent = spec.get("agent", {})
    if "systemPrompt" in agent:
        agent.pop("systemPromptFrom", None)
