"""Checks of a valid spec for values that will be refused later, or are inadvisable. Pure."""

import re
from collections.abc import Iterator, Mapping

from agent_operator.api.addresses import http_address, model_api_address, redis_address
from agent_operator.api.cautions import cautions, measured, sidecars_of_tools
from agent_operator.api.core_v1 import Resources
from agent_operator.api.mcp import ToolSidecar
from agent_operator.api.protocols import A2A_PORT, Protocols
from agent_operator.api.providers import SECRET_KEYS, identity_of
from agent_operator.api.spec import AgentSpec
from agent_operator.api.validation import Fault
from agent_operator.kube.compare import quantity
from agent_operator.manifests.network_policy import namespace_of
from agent_operator.manifests.pod import GRACE_BEYOND_ANSWER_SECONDS

# Names of variables that usually contain a secret.
_SECRET_NAME = re.compile(r"(^|_)(API_?KEYS?|KEY|TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS?)$", re.IGNORECASE)

_NO_MEMORY_LIMIT = "without a memory limit, a leak can exhaust the whole node: set memory"


def refusals(spec: AgentSpec) -> Iterator[Fault]:
    """Yield what the API server accepts in an AgentDeployment, but refuses in the objects created from it."""
    yield from _more_than_the_limit("spec.resources", spec.resources)
    if spec.worker.enabled and spec.worker.resources is not None:
        yield from _more_than_the_limit("spec.worker.resources", spec.worker.resources)
    if spec.runtime is not None:
        yield from _more_than_the_limit("spec.runtime.resources", spec.runtime.resources)
    for field, sidecar in _sidecars(spec):
        yield from _more_than_the_limit(f"{field}.resources", sidecar.resources)


def advice(spec: AgentSpec) -> Iterator[Fault]:
    """Yield what is valid but inadvisable: the field, and a sentence that explains what to do."""
    yield from _secrets(spec)
    yield from _addresses(spec)
    yield from _state(spec)
    yield from _capacity(spec)
    yield from _exposure(spec)
    yield from _image_and_model(spec)
    yield from _provider(spec)
    yield from _runtime(spec)
    yield from _tools(spec)
    yield from _protocols(spec)
    yield from (Fault(*caution) for caution in cautions(spec))


def _more_than_the_limit(field: str, resources: Resources) -> Iterator[Fault]:
    limits: Mapping[str, object] = resources.limits or {}
    for name, amount in (resources.requests or {}).items():
        if name in limits and quantity(str(amount)) > quantity(str(limits[name])):
            yield Fault(f"{field}.requests.{name}", "must be less than or equal to the limit: lower it")


def _secrets(spec: AgentSpec) -> Iterator[Fault]:
    if spec.api_key.value is not None:
        yield Fault(
            "spec.apiKey.value",
            "every user who can read this object can read the key: move it to a Secret and set apiKey.secretName",
        )
    of_runtime = spec.runtime.env if spec.runtime is not None else None
    of_tools = [(f"{field}.env", sidecar.env) for field, sidecar in _sidecars(spec)]
    for field, variables in (("spec.extraEnv", spec.extra_env), ("spec.runtime.env", of_runtime), *of_tools):
        for index, variable in enumerate(variables or []):
            if variable.value and _SECRET_NAME.search(variable.name):
                yield Fault(
                    f"{field}[{index}].value",
                    f"{variable.name} looks like a secret, and every user who can read this object can read it: use "
                    "valueFrom.secretKeyRef",
                )


def _addresses(spec: AgentSpec) -> Iterator[Fault]:
    """Yield addresses that match the schema, but with which the agent would not start or not work."""
    tracing = spec.monitoring.tracing
    endpoint = None if tracing is None else tracing.endpoint
    written = (
        ("spec.agent.baseUrl", spec.agent.base_url, model_api_address, "the pods would not start"),
        ("spec.redis.url", spec.redis.url, redis_address, "the pods would not start"),
        ("spec.monitoring.tracing.endpoint", endpoint, http_address, "no traces would be exported"),
    )
    of_tools = ((field, address, _tool_address, "the pods would not start") for field, address in _tool_addresses(spec))
    for field, value, read, outcome in (*written, *of_tools):
        try:
            address = None if value is None else read(value)
        except ValueError as error:
            yield Fault(field, f"{error}; with this value, {outcome}")
        else:
            if isinstance(address, tuple) and address[1]:
                yield Fault(field, f"the agent appends {address[1]} itself, and ignores it in the address: remove it")


def _tool_addresses(spec: AgentSpec) -> Iterator[tuple[str, str]]:
    for index, tool in enumerate(spec.tools or []):
        field = f"spec.tools[{index}].mcp"
        if tool.mcp is not None and tool.mcp.url is not None:
            yield f"{field}.url", tool.mcp.url
        if tool.mcp is not None and tool.mcp.auth is not None:
            yield f"{field}.auth.clientCredentials.tokenUrl", tool.mcp.auth.client_credentials.token_url


def _tool_address(raw: str) -> str:
    return http_address(raw.partition("?")[0])


def _state(spec: AgentSpec) -> Iterator[Fault]:
    most = spec.autoscaling.max_replicas if spec.autoscaling.enabled else spec.replicas
    if most > 1 and not spec.redis.given:
        field = "spec.autoscaling.maxReplicas" if spec.autoscaling.enabled else "spec.replicas"
        yield Fault(field, "without a Redis, each pod has its own conversations, tasks and limits: set redis")


def _capacity(spec: AgentSpec) -> Iterator[Fault]:
    if "memory" not in (spec.resources.limits or {}):
        yield Fault("spec.resources.limits", _NO_MEMORY_LIMIT)
    for name in measured(spec.autoscaling):
        if name not in {**(spec.resources.limits or {}), **(spec.resources.requests or {})}:
            yield Fault(
                "spec.resources.requests",
                f"autoscaling on {name} utilization does not work without a {name} request: set {name}",
            )
    given, longest = spec.rollout.termination_grace_period_seconds, spec.agent.longest_answer_seconds
    if given is not None and given < longest + GRACE_BEYOND_ANSWER_SECONDS:
        yield Fault(
            "spec.rollout.terminationGracePeriodSeconds",
            f"is shorter than the longest answer ({longest} s) plus {GRACE_BEYOND_ANSWER_SECONDS} s, so rollouts can "
            "interrupt streams: raise it, remove it, or lower agent.streamTimeoutSeconds",
        )


def _exposure(spec: AgentSpec) -> Iterator[Fault]:
    outside = [
        field
        for field, there in (
            ("spec.ingress", spec.ingress.enabled),
            ("spec.httpRoute", spec.http_route.enabled),
            ("spec.service.type", spec.service.type != "ClusterIP"),
        )
        if there
    ]
    if outside and not _has_clients(spec) and spec.agent.provider != "echo":
        yield Fault(outside[0], "clients that reach the agent from outside can spend your tokens: set auth.enabled")
    if spec.ingress.enabled and spec.ingress.tls_secret_name is None:
        yield Fault(
            "spec.ingress", "without TLS, keys and conversations are sent unencrypted: set ingress.tlsSecretName"
        )
    if "*" in (spec.cors.origins or []):
        yield Fault("spec.cors.origins", "every web page may call the agent: list the allowed origins")
    if not spec.network_policy.enabled:
        yield Fault("spec.networkPolicy.enabled", "traffic to and from the pods is not restricted: enable it")


def _image_and_model(spec: AgentSpec) -> Iterator[Fault]:
    if spec.image.tag == "latest" and spec.image.digest is None:
        yield Fault("spec.image.tag", "`latest` can change without notice: set a version, or set image.digest")
    # A gateway may use its own model names.
    if (
        spec.agent.provider == "anthropic"
        and spec.agent.base_url is None
        and not spec.agent.model.startswith("claude-")
    ):
        yield Fault("spec.agent.model", "is not an Anthropic model ID, which all start with `claude-`: check it")


def _provider(spec: AgentSpec) -> Iterator[Fault]:
    agent = spec.agent
    for name in SECRET_KEYS:
        if name != agent.provider and getattr(agent, name) is not None:
            yield Fault(f"spec.agent.{name}", f"has no effect with provider {agent.provider}: remove it")
    identity = identity_of(agent)
    if agent.provider not in SECRET_KEYS:
        if agent.credentials is not None and identity is None:
            yield Fault("spec.agent.credentials", f"has no effect with provider {agent.provider}: remove it")
        if identity is not None and (spec.api_key.secret_name is not None or spec.api_key.value is not None):
            yield Fault("spec.apiKey", "has no effect with agent.credentials.workloadIdentity: remove it")
        return
    of_anthropic = [each for each in agent.fallbacks or [] if each.provider == "anthropic"]
    if agent.base_url is not None and not of_anthropic:
        yield Fault("spec.agent.baseUrl", f"has no effect here: set the address in agent.{agent.provider}.baseUrl")
    has_key = spec.api_key.secret_name is not None or spec.api_key.value is not None
    if has_key and all(each.credentials is not None for each in of_anthropic):
        yield Fault("spec.apiKey", f"has no effect with provider {agent.provider}: remove it")


def _runtime(spec: AgentSpec) -> Iterator[Fault]:
    runtime = spec.runtime
    if runtime is None:
        if spec.agent.models:
            yield Fault("spec.agent.models", "has no effect without a runtime, which may call these models: remove it")
        return
    yield from _container("spec.runtime", runtime.image, runtime.resources)
    if runtime.protocol == "http" and spec.worker.enabled:
        yield Fault("spec.worker.enabled", "protocol http has no tasks, so the workers stay idle: set it to false")
    if spec.budget is not None and spec.budget.cost is not None and spec.agent.models:
        yield Fault(
            "spec.agent.models", "the budget counts the cost of these models by the prices of agent.model: check them"
        )


def _container(field: str, image: str | None, resources: Resources) -> Iterator[Fault]:
    if image is not None and _moves(image):
        yield Fault(
            f"{field}.image", "can change without notice: add a tag of one version to it, or the image's digest"
        )
    if "memory" not in (resources.limits or {}):
        yield Fault(f"{field}.resources.limits", _NO_MEMORY_LIMIT)


def _tools(spec: AgentSpec) -> Iterator[Fault]:
    for field, value in (("maxSteps", spec.agent.max_steps), ("maxToolCalls", spec.agent.max_tool_calls)):
        if value is not None and not spec.tools:
            yield Fault(f"spec.agent.{field}", "has no effect without tools: remove it, or set tools")
    for index, tool in enumerate(spec.tools or []):
        mcp = tool.mcp
        if mcp is None or mcp.url is None or not mcp.url.startswith("http://") or namespace_of(mcp.url) is not None:
            continue
        if mcp.headers_from or mcp.auth is not None or mcp.forward_caller:
            yield Fault(
                f"spec.tools[{index}].mcp.url",
                "sends credentials unencrypted to an address that may be outside the cluster: use https://",
            )
    yield from _approvals(spec)
    for field, sidecar in _sidecars(spec):
        yield from _container(field, sidecar.image, sidecar.resources)


def _approvals(spec: AgentSpec) -> Iterator[Fault]:
    approving = [index for index, tool in enumerate(spec.tools or []) if tool.approve]
    if spec.approvals is not None and not approving:
        yield Fault(
            "spec.approvals", "has no effect without a tool that has approve: remove it, or set tools[].approve"
        )
    if spec.approvals is not None and spec.approvals.approvers and not _has_clients(spec):
        yield Fault(
            "spec.approvals.approvers",
            "names client keys, and the agent has none, so that no client can decide: set auth.enabled",
        )
    if approving and spec.runtime is not None and spec.runtime.protocol == "http":
        yield Fault(
            f"spec.tools[{approving[0]}].approve",
            "a runtime with the protocol http cannot wait for approvals, and its calls of these tools are refused: "
            "remove them from approve, or set another runtime.protocol",
        )


def _protocols(spec: AgentSpec) -> Iterator[Fault]:
    api = spec.api or Protocols()
    serves_a2a = api.a2a is not False
    if not serves_a2a and spec.runtime is None and spec.service.app_protocol == A2A_PORT:
        yield Fault(
            "spec.service.appProtocol", "announces A2A, which api.a2a disables: remove it, or set api.a2a to true"
        )
    if serves_a2a or api.openai is not False or api.anthropic is not False or api.mcp:
        return
    for field, value in (("maxBodyBytes", api.max_body_bytes), ("maxInputTokens", api.max_input_tokens)):
        if value is not None:
            yield Fault(f"spec.api.{field}", "has no effect, as all protocols are disabled: remove it, or enable one")


def _sidecars(spec: AgentSpec) -> Iterator[tuple[str, ToolSidecar]]:
    yield from ((f"spec.tools[{index}].mcp.sidecar", sidecar) for index, sidecar in sidecars_of_tools(spec))


def _moves(image: str) -> bool:
    """Return whether an image reference has neither a digest nor a tag other than `latest`."""
    name, _, tag = image.rpartition("/")[2].partition(":")
    return "@" not in name + tag and tag in {"", "latest"}


def _has_clients(spec: AgentSpec) -> bool:
    """Return whether clients need a key or a token."""
    return spec.auth.enabled or spec.auth.jwt is not None
