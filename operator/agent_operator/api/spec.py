"""`AgentDeployment.spec`: all settings of an agent, and their only definition.

The CRD, the chart's values and schema, and the field reference are generated from these models. A field has a default
here only if the value is right on every cluster for the lifetime of v1alpha1: the API server writes it into each
object.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from agent_operator.api.access import Auth, Cors, RateLimit
from agent_operator.api.approvals import Approvals
from agent_operator.api.base import Model
from agent_operator.api.budget import Budget
from agent_operator.api.core_v1 import (
    Annotations,
    DataKey,
    EnvSource,
    EnvVar,
    KeyReference,
    Labels,
    ObjectName,
    ObjectReference,
    PodCount,
    PodLabels,
    Resources,
    SpreadConstraint,
    Toleration,
    VolumeMount,
)
from agent_operator.api.kubernetes.containers import Container
from agent_operator.api.kubernetes.core import Affinity, PodSecurityContext, SecurityContext
from agent_operator.api.kubernetes.part import ATOMIC, SET, AsWritten, keyed
from agent_operator.api.kubernetes.volumes import Volume
from agent_operator.api.networking import HttpAddress, HttpRoute, Ingress, NetworkPolicy, Service
from agent_operator.api.protocols import SPEC_RULES as RULES_OF_PROTOCOLS
from agent_operator.api.protocols import Protocols
from agent_operator.api.providers import (
    AGENT_RULES,
    Bedrock,
    Fallbacks,
    Foundry,
    ProviderCredentials,
    Vertex,
    has_access_of_its_own,
    identity_of,
)
from agent_operator.api.providers import SPEC_RULES as RULES_OF_PROVIDERS
from agent_operator.api.redis import Redis
from agent_operator.api.rules import Rule
from agent_operator.api.runtime import SPEC_RULES, Runtime
from agent_operator.api.scaling import Autoscaling, PodDisruptionBudget, Replicas, Worker
from agent_operator.api.tools import SPEC_RULES as RULES_OF_TOOLS
from agent_operator.api.tools import Tools

DEFAULT_MODEL = "claude-sonnet-5-5"
# The default of the service. The schema has no default: the API server would write it into every stored agent.
DEFAULT_STREAM_SECONDS = 300
SECRET_KEY = "ANTHROPIC_API_KEY"  # noqa: S105  the name of a key in a Secret, not its value

# The user that both images run as.
UID = 10001


class Image(Model):
    """The image that the agent's pods run."""

    repository: Annotated[
        str, StringConstraints(pattern=r"^[a-z0-9]([a-zA-Z0-9._:/-]*[a-zA-Z0-9])?$", min_length=1, max_length=255)
    ] = "portside.dev/agent-service"
    """Registry and name of the image, without a tag."""
    tag: (
        Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_][a-zA-Z0-9._-]*$", min_length=1, max_length=128)] | None
    ) = None
    """Tag of the image. Defaults to the version of Portside."""
    digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)] | None = None
    """Digest of the image: `sha256:` and 64 hexadecimal digits. It takes precedence over the tag and pins the image."""
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When the kubelet pulls the image: `IfNotPresent`, `Always` or `Never`."""


class SystemPromptFrom(Model):
    """A source of instructions that are stored separately from the agent."""

    config_map_key_ref: KeyReference
    """Key of a ConfigMap in the same namespace that contains the instructions."""


# Without the characters that separate, quote or end an entry in the setting GATEWAY_MODELS.
_FurtherModel = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._:@/-]*[A-Za-z0-9])?$", min_length=1, max_length=128)
]


class Agent(Model):
    """The agent itself: its model, its instructions and its limits."""

    rules = (
        Rule(
            cel="!(has(self.systemPrompt) && has(self.systemPromptFrom))",
            message="set agent.systemPrompt or agent.systemPromptFrom, not both: remove one of them",
            holds=lambda agent: agent.system_prompt is None or agent.system_prompt_from is None,
            field="systemPrompt",
        ),
        *AGENT_RULES,
    )

    description: Annotated[str, StringConstraints(pattern=r"^[^\x00]+$", min_length=1, max_length=1000)] | None = None
    """What the agent does, for its clients: the A2A agent card and the description of the MCP tool contain it."""
    provider: Literal["anthropic", "bedrock", "vertex", "foundry", "echo"] = "anthropic"
    """Provider of the answers: `anthropic` calls the model API; `bedrock` (Amazon Bedrock), `vertex` (Google Vertex
    AI) and `foundry` (Microsoft Foundry) call the same models in a cloud; `echo` answers with the message itself and
    needs no key."""
    model: Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=1, max_length=128)] = DEFAULT_MODEL
    """ID of the model at the model API."""
    models: Annotated[list[_FurtherModel], Field(max_length=32, json_schema_extra=SET)] | None = None
    """IDs of further models that a runtime may call, besides `model`."""
    max_tokens: Annotated[int, Field(ge=1, le=128_000)] = 4096
    """Maximum number of tokens in one answer."""
    system_prompt: Annotated[str, StringConstraints(pattern=r"^[^\x00]+$", min_length=1, max_length=20_000)] | None = (
        None
    )
    """Instructions that the model receives before every conversation."""
    system_prompt_from: SystemPromptFrom | None = None
    """Instructions from a ConfigMap that you provide. Changes to the ConfigMap take effect without a restart."""
    allow_system_prompt: bool | None = None
    """Whether a client of `/chat/stream` may replace the instructions with its own, at the owner's expense. If
    unset, this is allowed outside `production`."""
    base_url: HttpAddress | None = None
    """Address of the model API, for a gateway or proxy, with the provider `anthropic`. Defaults to the provider's own
    address."""
    bedrock: Bedrock | None = None
    vertex: Vertex | None = None
    foundry: Foundry | None = None
    credentials: ProviderCredentials | None = None
    fallbacks: Fallbacks | None = None
    """Providers that are asked in this order when the one before does not answer, before the first byte of an
    answer."""
    request_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """Maximum total duration of one request, in seconds. A stream may take longer, and continues unless the model
    API sends nothing for this many seconds."""
    stream_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] | None = None
    """Maximum total duration of a stream, in seconds. Defaults to 300, and is never less than
    `requestTimeoutSeconds`."""
    max_steps: Annotated[int, Field(ge=1, le=100)] | None = None
    """Maximum number of calls of the model in one turn with tools. Defaults to 20."""
    max_tool_calls: Annotated[int, Field(ge=1, le=500)] | None = None
    """Maximum number of tool calls in one turn. Defaults to 50."""
    environment: Literal["development", "staging", "production", "testing"] = "production"
    """Purpose of the deployment. In `production`, the API's own documentation is disabled."""

    @property
    def models_that_answer(self) -> set[str]:
        """The model of the agent, and those of its fallbacks."""
        return {self.model, *(each.model for each in self.fallbacks or [] if each.model is not None)}

    @property
    def longest_answer_seconds(self) -> int:
        """The maximum duration of an answer in seconds, streamed or not."""
        return max(self.request_timeout_seconds, self.stream_timeout_seconds or DEFAULT_STREAM_SECONDS)


class ApiKey(Model):
    """The key of the model API: from an existing Secret, or written here for trying things out."""

    rules = (
        Rule(
            cel="!(has(self.value) && has(self.secretName))",
            message="set apiKey.secretName or apiKey.value, not both: remove one of them",
            holds=lambda key: key.value is None or key.secret_name is None,
        ),
    )

    secret_name: ObjectName | None = None
    """Name of a Secret in the same namespace that contains the key. Changes to the Secret take effect without a
    restart."""
    secret_key: DataKey = SECRET_KEY
    """Key inside that Secret."""
    value: Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=1, max_length=4096)] | None = None
    """The key itself, for trying things out only: every user who can read this object can read the key."""


class Logging(Model):
    """What the agent API logs, and in which format."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Minimum level that is logged."""
    format: Literal["json", "text"] = "json"
    """Format of the log: `json` (one JSON object per line) or `text` (human-readable)."""


class ServiceAccount(Model):
    """The ServiceAccount of the pods. They receive no token for the Kubernetes API, which the agent does not use."""

    create: bool = True
    """Whether a ServiceAccount is created for the agent."""
    name: ObjectName | None = None
    """Name of the ServiceAccount. Defaults to the agent's name if one is created, and to `default` otherwise."""
    annotations: Annotations | None = None
    """Annotations of the ServiceAccount, such as those by which cloud providers grant permissions to the pods."""


_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_Duration = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}(ms|s|m|h)$", max_length=8)]


def _milliseconds(duration: str) -> int:
    number = duration.rstrip("smh")
    return int(number) * _MILLISECONDS[duration.removeprefix(number)]


class ServiceMonitor(Model):
    """A ServiceMonitor, from which prometheus-operator configures the scraping of the agent."""

    rules = (
        # prometheus-operator ignores such a monitor, and reports this only in its own log.
        Rule(
            cel="!has(self.scrapeTimeout) || duration(self.scrapeTimeout) <= duration(self.interval)",
            message="monitoring.serviceMonitor.scrapeTimeout must not exceed monitoring.serviceMonitor.interval: "
            "lower one or raise the other",
            holds=lambda monitor: (
                monitor.scrape_timeout is None
                or _milliseconds(monitor.scrape_timeout) <= _milliseconds(monitor.interval)
            ),
            field="scrapeTimeout",
        ),
    )

    enabled: bool = False
    """Whether a ServiceMonitor is created. The cluster needs the definitions of prometheus-operator
    (monitoring.coreos.com/v1)."""
    interval: _Duration = "30s"
    """Interval between scrapes."""
    scrape_timeout: _Duration | None = None
    """Timeout of a scrape. Defaults to the timeout of Prometheus."""
    labels: PodLabels | None = None
    """Labels of the ServiceMonitor in addition to those of Portside, such as those that a Prometheus selects by."""


class Tracing(Model):
    """OpenTelemetry traces of requests, tasks and turns with the model, under the agent's name and without content."""

    endpoint: HttpAddress
    """Base address of a collector that accepts OTLP over HTTP, such as http://collector.observability:4318. The
    NetworkPolicy allows egress from the pods to its port."""


class Monitoring(Model):
    """Monitoring of the agent."""

    service_monitor: ServiceMonitor = ServiceMonitor()
    tracing: Tracing | None = None


class Rollout(Model):
    """How the pods are replaced when the agent changes."""

    rules = (
        Rule(
            cel="!((type(self.maxSurge) == int ? self.maxSurge == 0 : self.maxSurge == '0%') && "
            "(type(self.maxUnavailable) == int ? self.maxUnavailable == 0 : self.maxUnavailable == '0%'))",
            message="rollout.maxSurge and rollout.maxUnavailable cannot both be 0, as no pod could be replaced: "
            "raise one",
            holds=lambda rollout: {rollout.max_surge, rollout.max_unavailable} - {0, "0%"} != set(),
            field="maxSurge",
        ),
    )

    strategy: Literal["RollingUpdate", "Recreate"] = "RollingUpdate"
    """How pods are replaced: `RollingUpdate` replaces them one after another; `Recreate` terminates all pods before
    it starts new ones."""
    max_surge: PodCount = 1
    """Maximum number of pods above the desired number during a rollout: a number, or a percentage such as "25%"."""
    max_unavailable: PodCount = 0
    """Maximum number of pods below the desired number during a rollout: a number, or a percentage such as "25%"."""
    termination_grace_period_seconds: Annotated[int, Field(ge=10, le=7200)] | None = None
    """Seconds that a pod has to finish its requests when it is deleted. Defaults to the longer of the request
    timeout and the stream timeout, plus 15."""


def _names(entries: Sequence[Container] | Sequence[Volume] | Sequence[VolumeMount] | None) -> set[str]:
    return {each.name for each in entries or ()}


class AgentSpec(Model):
    """The desired state of the agent."""

    rules = (
        Rule(
            cel="self.agent.provider != 'anthropic' || (has(self.runtime) && !has(self.agent.fallbacks)) "
            "|| has(self.apiKey.secretName) || has(self.apiKey.value) "
            "|| (has(self.agent.credentials) && has(self.agent.credentials.workloadIdentity))",
            message="provider anthropic needs a key: set apiKey.secretName to a Secret that contains it "
            "(or apiKey.value for a trial), or set agent.provider to echo",
            holds=lambda spec: (
                spec.agent.provider != "anthropic"
                or has_access_of_its_own(spec)
                or spec.api_key.secret_name is not None
                or spec.api_key.value is not None
                or identity_of(spec.agent) is not None
            ),
            field="apiKey",
            unless="className",
        ),
        Rule(
            cel="!self.worker.enabled || has(self.redis.url) || has(self.redis.secretName)",
            message="worker.enabled needs redis, which stores the tasks: set redis.url or redis.secretName",
            holds=lambda spec: not spec.worker.enabled or spec.redis.given,
            field="redis",
            unless="className",
        ),
        Rule(
            cel="!has(self.budget) || has(self.redis.url) || has(self.redis.secretName)",
            message="budget needs redis, which stores the usage: set redis.url or redis.secretName",
            holds=lambda spec: spec.budget is None or spec.redis.given,
            field="redis",
            unless="className",
        ),
        Rule(
            cel="!has(self.autoscaling.engine) || self.autoscaling.engine != 'keda' "
            "|| has(self.autoscaling.prometheusAddress) "
            "|| !((self.autoscaling.enabled && has(self.autoscaling.targetInFlightRequests)) "
            "|| (self.worker.enabled && self.worker.autoscaling.enabled))",
            message="autoscaling.engine keda queries Prometheus for requests in flight and tasks: "
            "set autoscaling.prometheusAddress",
            holds=lambda spec: not spec.queries_prometheus or spec.autoscaling.prometheus_address is not None,
            field="autoscaling",
            unless="className",
        ),
        Rule(
            cel="!has(self.budget) || !(has(self.budget.cost) "
            "|| (has(self.budget.perClient) && has(self.budget.perClient.cost)) "
            "|| (has(self.budget.perTenant) && has(self.budget.perTenant.cost))) "
            "|| (has(self.budget.prices) && self.agent.model in self.budget.prices "
            "&& (!has(self.agent.fallbacks) "
            "|| self.agent.fallbacks.all(f, !has(f.model) || f.model in self.budget.prices)))",
            message="budget.cost needs the prices of agent.model: add them to budget.prices, "
            "with the model's ID as the key, and those of the models of agent.fallbacks",
            holds=lambda spec: (
                spec.budget is None
                or not spec.budget.has_cost
                or all(model in (spec.budget.prices or {}) for model in spec.agent.models_that_answer)
            ),
            field="budget",
            unless="className",
        ),
        Rule(
            cel="!self.httpRoute.enabled || (has(self.httpRoute.parentRefs) && self.httpRoute.parentRefs.size() > 0)",
            message="httpRoute.enabled needs httpRoute.parentRefs: list the Gateway that the route attaches to",
            holds=lambda spec: not spec.http_route.enabled or bool(spec.http_route.parent_refs),
            field="httpRoute.parentRefs",
            unless="className",
        ),
        Rule(
            cel="!has(self.initContainers) || !has(self.sidecars) "
            "|| self.initContainers.all(each, !self.sidecars.exists(other, other.name == each.name))",
            message="a container of initContainers and one of sidecars have the same name: rename one",
            holds=lambda spec: not _names(spec.init_containers) & _names(spec.sidecars),
            field="initContainers",
        ),
        Rule(
            cel="!has(self.extraVolumeMounts) || self.extraVolumeMounts.all(each, each.name in ['tmp', 'secrets'] "
            "|| (has(self.extraVolumes) && self.extraVolumes.exists(other, other.name == each.name)))",
            message="a mount in extraVolumeMounts refers to an unknown volume: "
            "add the volume to extraVolumes, or correct the name",
            holds=lambda spec: _names(spec.extra_volume_mounts) <= {"tmp", "secrets"} | _names(spec.extra_volumes),
            field="extraVolumeMounts",
        ),
        *SPEC_RULES,
        *RULES_OF_TOOLS,
        *RULES_OF_PROTOCOLS,
        *RULES_OF_PROVIDERS,
    )

    class_name: ObjectName | None = None
    """Name of the agent's AgentClass. Defaults to the class with the annotation `portside.dev/default-class: "true"`,
    if there is one. A field that is unset, or has the default of this schema, has the default of the class. Values
    that other fields require may come from a class that is named here."""
    image: Image = Image()
    image_pull_secrets: (
        Annotated[list[ObjectReference], Field(max_length=16, json_schema_extra=keyed("name"))] | None
    ) = None
    """Secrets in the same namespace that are used to pull the images."""
    agent: Agent = Agent()
    runtime: Runtime | None = None
    tools: Tools | None = None
    """Tools that the agent may call. A change replaces the pods."""
    approvals: Approvals | None = None
    api: Protocols | None = None
    api_key: ApiKey = ApiKey()
    auth: Auth = Auth()
    replicas: Replicas = 1
    """Number of pods while autoscaling is disabled. `kubectl scale` sets this field."""
    autoscaling: Autoscaling = Autoscaling()
    worker: Worker = Worker()
    redis: Redis = Redis()
    service: Service = Service()
    ingress: Ingress = Ingress()
    http_route: HttpRoute = HttpRoute()
    rate_limit: RateLimit = RateLimit()
    budget: Budget | None = None
    """What the agent may use in a day or a month. If unset, usage is unlimited."""
    cors: Cors = Cors()
    logging: Logging = Logging()
    resources: Resources = Resources(requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "512Mi"})
    node_selector: Labels | None = None
    """Labels that a node must have to run the pods."""
    tolerations: Annotated[list[Toleration], Field(max_length=32, json_schema_extra=ATOMIC)] | None = None
    """Node taints that the pods tolerate."""
    affinity: Annotated[dict[str, Any], AsWritten(Affinity)] | None = None
    """Scheduling constraints relative to nodes and other pods, in the form of a pod's `affinity`."""
    topology_spread_constraints: (
        Annotated[
            list[SpreadConstraint],
            Field(max_length=8, json_schema_extra=keyed("topologyKey", "whenUnsatisfiable")),
        ]
        | None
    ) = None
    """How the pods are spread. If unset, they are spread across nodes and zones as evenly as possible."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods."""
    service_account: ServiceAccount = ServiceAccount()
    pod_annotations: Annotations | None = None
    """Annotations of the pods. A change replaces the pods."""
    pod_labels: PodLabels | None = None
    """Labels of the pods, in addition to those of Portside. A change replaces the pods."""
    pod_security_context: Annotated[dict[str, Any], AsWritten(PodSecurityContext)] = {  # noqa: RUF012  pydantic copies it
        "runAsNonRoot": True,
        "runAsUser": UID,
        "runAsGroup": UID,
        "fsGroup": UID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    """Security settings of the pods. A value set here replaces the entire default, which meets the restricted Pod
    Security Standard."""
    security_context: Annotated[dict[str, Any], AsWritten(SecurityContext)] = {  # noqa: RUF012  pydantic copies it
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    """Security settings of the agent's container. A value set here replaces the entire default, which meets the
    restricted Pod Security Standard."""
    extra_env: Annotated[list[EnvVar], Field(max_length=64, json_schema_extra=keyed("name"))] | None = None
    """Environment variables of the agent's container. They take precedence over settings made by other fields."""
    env_from: Annotated[list[EnvSource], Field(max_length=16, json_schema_extra=ATOMIC)] | None = None
    """ConfigMaps and Secrets whose keys become environment variables of the agent's container."""
    extra_volumes: Annotated[list[Volume], Field(max_length=32, json_schema_extra=keyed("name"))] | None = None
    """Additional volumes of the pods."""
    extra_volume_mounts: (
        Annotated[list[VolumeMount], Field(max_length=32, json_schema_extra=keyed("mountPath"))] | None
    ) = None
    """Additional volumes that are mounted in the agent's container."""
    init_containers: Annotated[list[Container], Field(max_length=16, json_schema_extra=keyed("name"))] | None = None
    """Containers that run to completion before the agent starts."""
    sidecars: Annotated[list[Container], Field(max_length=16, json_schema_extra=keyed("name"))] | None = None
    """Containers that run alongside the agent."""
    pod_disruption_budget: PodDisruptionBudget = PodDisruptionBudget()
    network_policy: NetworkPolicy = NetworkPolicy()
    monitoring: Monitoring = Monitoring()
    rollout: Rollout = Rollout()

    @property
    def queries_prometheus(self) -> bool:
        """Whether KEDA scales by metrics that only Prometheus provides."""
        by_requests = self.autoscaling.enabled and self.autoscaling.target_in_flight_requests is not None
        by_queue = self.worker.enabled and self.worker.autoscaling.enabled
        return self.autoscaling.engine == "keda" and (by_requests or by_queue)
