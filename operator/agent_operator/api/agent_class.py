"""`AgentClass`: the defaults and the bounds that a platform team sets for agents."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError

from agent_operator.api.access import Auth, RateLimit
from agent_operator.api.agent import API_VERSION, GROUP
from agent_operator.api.base import Model
from agent_operator.api.budget import Budget, Money
from agent_operator.api.core_v1 import DNS_SUBDOMAIN, Amounts
from agent_operator.api.kubernetes.part import SET, AsWritten
from agent_operator.api.networking import HttpRoute, Ingress, NetworkPolicy, Service
from agent_operator.api.partial import partial
from agent_operator.api.rules import Rule
from agent_operator.api.scaling import AtLeastOne, Autoscaling, Replicas
from agent_operator.api.spec import Agent, AgentSpec, ApiKey, Logging, Monitoring, ServiceMonitor
from agent_operator.api.validation import Fault, InvalidAgentError, beyond_bounds, faults_of, without_nulls

CLASS_KIND = "AgentClass"
CLASS_PLURAL = "agentclasses"
# The class of agents that name none (Kubernetes has such an annotation for StorageClasses and IngressClasses).
DEFAULT_CLASS = f"{GROUP}/default-class"

_NAME = re.compile(DNS_SUBDOMAIN.removesuffix("$") + r"\Z")
_MAX_NAME = 253

# A whole value, or a prefix followed by `*`.
_Pattern = Annotated[str, StringConstraints(pattern=r"^[!-)+-~]*\*?$", min_length=1, max_length=253)]
_Image = Annotated[
    str, StringConstraints(pattern=r"^[a-zA-Z0-9]([a-zA-Z0-9._:/-]*[a-zA-Z0-9])?$", min_length=1, max_length=255)
]
# A host, or `*.` and the domain of hosts.
_Host = Annotated[
    str,
    StringConstraints(
        pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        min_length=1,
        max_length=253,
    ),
]
_Provider = Annotated[str, StringConstraints(pattern=r"^[a-z]+$", min_length=1, max_length=32)]
_Images = Annotated[list[_Image], Field(max_length=64, json_schema_extra=SET)]
_Patterns = Annotated[list[_Pattern], Field(max_length=64, json_schema_extra=SET)]
_Hosts = Annotated[list[_Host], Field(max_length=64, json_schema_extra=SET)]


ClassDefaults = partial(
    AgentSpec,
    *("image", "image_pull_secrets", "replicas", "redis", "resources"),
    *("node_selector", "tolerations", "topology_spread_constraints", "priority_class_name"),
    *("pod_annotations", "pod_labels"),
    agent=partial(
        Agent,
        *("provider", "model", "models", "max_tokens", "base_url", "allow_system_prompt"),
        *("bedrock", "vertex", "foundry", "credentials"),
        *("request_timeout_seconds", "stream_timeout_seconds", "max_steps", "max_tool_calls", "environment"),
    ),
    api_key=partial(ApiKey, "secret_name", "secret_key"),
    auth=partial(Auth, "enabled"),
    autoscaling=partial(
        Autoscaling,
        *("enabled", "engine", "prometheus_address", "min_replicas", "max_replicas"),
        *("target_cpu_utilization_percentage", "target_memory_utilization_percentage", "target_in_flight_requests"),
        "behavior",
    ),
    service=partial(Service, "annotations", "app_protocol"),
    ingress=partial(Ingress, "class_name", "annotations"),
    http_route=partial(HttpRoute, "annotations", "parent_refs"),
    rate_limit=partial(RateLimit, "requests_per_minute", "tokens_per_minute", "trusted_proxies"),
    budget=partial(Budget, "period", "tokens", "cost", "per_client", "per_tenant", "prices", "action"),
    logging=partial(Logging, "level", "format"),
    network_policy=partial(NetworkPolicy, "ingress_from", "scrape_from", "redis_port", "extra_egress"),
    monitoring=partial(
        Monitoring,
        "tracing",
        service_monitor=partial(ServiceMonitor, "enabled", "interval", "scrape_timeout", "labels"),
    ),
)
"""The fields of a spec that a class may have defaults for: what a platform decides, not what an agent is."""


class ShareBounds(Model):
    """The largest share of a budget, in a month of 31 days. Each agent must then have such a share."""

    tokens_per_month: Annotated[int, Field(ge=1, le=10**15)] | None = None
    """Maximum of `tokens`; 31 times a budget of a day."""
    cost_per_month: Money | None = None
    """Maximum of `cost`; 31 times a budget of a day. The prices must be those of the class's defaults."""


class BudgetBounds(Model):
    """The largest budget that an agent may have, in a month of 31 days. Each agent must then have a budget that stops
    it."""

    tokens_per_month: Annotated[int, Field(ge=1, le=10**15)] | None = None
    """Maximum of `budget.tokens`; 31 times a budget of a day."""
    cost_per_month: Money | None = None
    """Maximum of `budget.cost`; 31 times a budget of a day. The prices must be those of the class's defaults."""
    per_client: ShareBounds | None = None
    """Maximum of `budget.perClient`."""
    per_tenant: ShareBounds | None = None
    """Maximum of `budget.perTenant`."""


class ReplicaBounds(Model):
    """The number of pods that an agent may have, and of workers that it may have besides."""

    rules = (
        Rule(
            cel="!has(self.min) || !has(self.max) || self.min <= self.max",
            message="bounds.replicas.min must not exceed bounds.replicas.max: lower one or raise the other",
            holds=lambda bounds: bounds.min is None or bounds.max is None or bounds.min <= bounds.max,
            field="min",
        ),
    )

    min: Replicas | None = None
    """Minimum of `replicas`, or of `minReplicas` with autoscaling."""
    max: AtLeastOne | None = None
    """Maximum of `replicas`, or of `maxReplicas` with autoscaling."""


class ResourceBounds(Model):
    """The compute resources that each container of an agent may have."""

    requests: Amounts | None = None
    """Maximum of each request, by resource name."""
    limits: Amounts | None = None
    """Maximum of each limit, by resource name. Each container must have these limits."""


class ExposureBounds(Model):
    """How agents may be reached from outside the cluster."""

    ingress: bool | None = None
    """Whether agents may have an Ingress. If unset, they may."""
    http_route: bool | None = None
    """Whether agents may have an HTTPRoute. If unset, they may."""
    service_types: (
        Annotated[list[Literal["ClusterIP", "NodePort", "LoadBalancer"]], Field(max_length=3, json_schema_extra=SET)]
        | None
    ) = None
    """Types that the Service may have. If unset, all of them."""
    hosts: _Hosts | None = None
    """Hosts that an Ingress or an HTTPRoute may have: whole names, or `*.` and a domain for all names below it. It
    must then name its hosts. If unset, all hosts."""


class ClassBounds(Model):
    """What an agent of the class may ask for. What is unset is not bounded."""

    image_registries: _Images | None = None
    """Registries, folders of a registry or whole names that images of the agent's containers come from, such as
    `registry.example.com/agents`."""
    providers: Annotated[list[_Provider], Field(max_length=16, json_schema_extra=SET)] | None = None
    """Providers that `agent.provider` and `agent.fallbacks` may name."""
    models: _Patterns | None = None
    """Models that `agent.model`, `agent.models` and `agent.fallbacks` may name: whole IDs, or prefixes that end with
    `*`."""
    model_hosts: _Hosts | None = None
    """Hosts that `agent.baseUrl`, and `baseUrl` of a provider in a cloud, may have: whole names, or `*.` and a domain
    for all names below it."""
    tool_hosts: _Hosts | None = None
    """Hosts of the servers and token endpoints in `tools`, in the same form. A reference is checked by the address
    that it has."""
    budget: BudgetBounds | None = None
    replicas: ReplicaBounds | None = None
    resources: ResourceBounds | None = None
    exposure: ExposureBounds | None = None


class AgentClassSpec(Model):
    """The defaults and the bounds of the class."""

    description: Annotated[str, StringConstraints(pattern=r"^[^\x00]+$", min_length=1, max_length=1000)] | None = None
    """What the class is for."""
    namespaces: _Patterns | None = None
    """Namespaces whose agents may use the class: whole names, or prefixes that end with `*`. If unset, all of them."""
    defaults: Annotated[dict[str, Any], AsWritten(ClassDefaults)] = {}  # noqa: RUF012  pydantic copies it
    """Values of fields that an agent leaves out, in the form of an agent's `spec`."""
    bounds: ClassBounds = ClassBounds()


@dataclass(frozen=True)
class AgentClass:
    """A valid class: its name, its spec, and whether it is that of agents that name none."""

    name: str
    spec: AgentClassSpec
    default: bool = False


class InvalidClassError(InvalidAgentError):
    """An object that is not a valid `AgentClass`, with every fault that was found."""


def parse_class(document: Mapping[str, Any]) -> AgentClass:
    """Return the `AgentClass` of a document. Raises InvalidClassError with all faults of the document."""
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    name = metadata.get("name")
    faults = []
    if document.get("apiVersion") != API_VERSION:
        faults.append(Fault("apiVersion", f"should be {API_VERSION}"))
    if document.get("kind") != CLASS_KIND:
        faults.append(Fault("kind", f"should be {CLASS_KIND}"))
    if not isinstance(name, str) or len(name) > _MAX_NAME or not _NAME.match(name):
        faults.append(Fault("metadata.name", "must be lower-case letters, digits, '-' and '.': check it"))
    faults += beyond_bounds(document)
    if faults:
        raise InvalidClassError(faults)
    try:
        spec = AgentClassSpec.model_validate(without_nulls(document.get("spec", {})))
    except ValidationError as error:
        raise InvalidClassError(faults_of(error, "spec")) from error
    return AgentClass(str(name), spec, is_default(metadata))


def is_default(metadata: Mapping[str, Any]) -> bool:
    """Return whether the metadata is that of a class for agents that name none."""
    annotations = metadata.get("annotations")
    return isinstance(annotations, Mapping) and annotations.get(DEFAULT_CLASS) == "true"
