"""`AgentDeployment.spec`: everything an agent can be told, and the only definition of it.

The CRD, the chart's values and schema and the field reference are generated from these models. A default stands here
only when it is the right value on every cluster for as long as v1alpha1 lives; the API server writes it into each
object.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from agent_operator.api.access import Auth, Cors, RateLimit
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
    keyed,
)
from agent_operator.api.kubernetes.containers import Container
from agent_operator.api.kubernetes.core import Affinity, PodSecurityContext, SecurityContext
from agent_operator.api.kubernetes.part import ATOMIC, AsWritten
from agent_operator.api.kubernetes.volumes import Volume
from agent_operator.api.networking import HttpAddress, HttpRoute, Ingress, NetworkPolicy, Service
from agent_operator.api.redis import Redis
from agent_operator.api.rules import Rule
from agent_operator.api.scaling import Autoscaling, PodDisruptionBudget, Replicas, Worker

DEFAULT_MODEL = "claude-sonnet-5-5"
# The service's own default. It has none in the schema: the API server would write it into every stored agent.
DEFAULT_STREAM_SECONDS = 300
SECRET_KEY = "ANTHROPIC_API_KEY"  # noqa: S105  the name of a key in a Secret, not its value

# The user that both images run as.
UID = 10001


class Image(Model):
    """The image that the agent's pods run."""

    repository: Annotated[
        str, StringConstraints(pattern=r"^[a-z0-9]([a-zA-Z0-9._:/-]*[a-zA-Z0-9])?$", min_length=1, max_length=255)
    ] = "portside.dev/agent-service"
    """Registry and name, without a tag."""
    tag: (
        Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_][a-zA-Z0-9._-]*$", min_length=1, max_length=128)] | None
    ) = None
    """Tag of the image; the version of Portside when not set."""
    digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)] | None = None
    """Digest of the image, `sha256:` and 64 hexadecimal digits. It wins over the tag, and pins what runs."""
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When the kubelet pulls the image: `IfNotPresent`, `Always` or `Never`."""


class SystemPromptFrom(Model):
    """Where instructions come from that are kept apart from the agent."""

    config_map_key_ref: KeyReference
    """The key of a ConfigMap in the same namespace that holds them."""


class Agent(Model):
    """What the agent is: its model, its instructions and its limits."""

    rules = (
        Rule(
            cel="!(has(self.systemPrompt) && has(self.systemPromptFrom))",
            message="set agent.systemPrompt or agent.systemPromptFrom, not both: remove one of them",
            holds=lambda agent: agent.system_prompt is None or agent.system_prompt_from is None,
            field="systemPrompt",
        ),
    )

    provider: Literal["anthropic", "echo"] = "anthropic"
    """Who answers: `anthropic` asks the model API, `echo` answers from the message itself and needs no key."""
    model: Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=1, max_length=128)] = DEFAULT_MODEL
    """Model that answers, by its id at the model API."""
    max_tokens: Annotated[int, Field(ge=1, le=128_000)] = 4096
    """Most tokens of one answer."""
    system_prompt: Annotated[str, StringConstraints(pattern=r"^[^\x00]+$", min_length=1, max_length=20_000)] | None = (
        None
    )
    """Instructions that the model gets before every conversation."""
    system_prompt_from: SystemPromptFrom | None = None
    """Instructions that stand in a ConfigMap of yours. A changed ConfigMap is used with no restart."""
    allow_system_prompt: bool | None = None
    """Whether a caller of `/chat/stream` may replace the instructions by its own, at the owner's expense; when not set,
    outside `production`."""
    base_url: HttpAddress | None = None
    """Address of the model API, for a gateway or proxy; the provider's own when not set."""
    request_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """Seconds that one request may take in all. A stream may take longer, and goes on for as long as the model API does
    not stay silent for so many seconds."""
    stream_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] | None = None
    """Seconds that a stream may take in all; 300 when not set, and never less than `requestTimeoutSeconds`."""
    environment: Literal["development", "staging", "production", "testing"] = "production"
    """What the deployment is for. In `production` the API's own documentation is off."""

    @property
    def longest_answer_seconds(self) -> int:
        """Most seconds that an answer may take, streamed or not."""
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
    """Name of a Secret in the same namespace that holds the key. A changed Secret is used with no restart."""
    secret_key: DataKey = SECRET_KEY
    """Key inside that Secret."""
    value: Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=1, max_length=4096)] | None = None
    """The key itself. Whoever can read this object can read it: for trying things out only."""


class Logging(Model):
    """What the agent API logs, and how."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level that is logged."""
    format: Literal["json", "text"] = "json"
    """One JSON object a line, or text for people."""


class ServiceAccount(Model):
    """The ServiceAccount of the pods. They get no token of it, as the agent does not talk to the Kubernetes API."""

    create: bool = True
    """Whether one is made for the agent."""
    name: ObjectName | None = None
    """Its name; the agent's name when one is made, and `default` when none is."""
    annotations: Annotations | None = None
    """Its annotations, as clouds read them to give the pods rights."""


_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_Duration = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}(ms|s|m|h)$", max_length=8)]


def _milliseconds(duration: str) -> int:
    number = duration.rstrip("smh")
    return int(number) * _MILLISECONDS[duration.removeprefix(number)]


class ServiceMonitor(Model):
    """A ServiceMonitor, by which prometheus-operator has the agent scraped."""

    rules = (
        # prometheus-operator leaves such a monitor out, and says so in its own log alone.
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
    """Whether there is one. The cluster needs prometheus-operator's definitions (monitoring.coreos.com/v1)."""
    interval: _Duration = "30s"
    """Time between two scrapes."""
    scrape_timeout: _Duration | None = None
    """Time that one scrape may take; Prometheus' own when not set."""
    labels: PodLabels | None = None
    """Its labels besides our own, as a Prometheus selects by them."""


class Tracing(Model):
    """OpenTelemetry traces of requests, tasks and turns with the model, under the agent's name; without content."""

    endpoint: HttpAddress
    """Base address of a collector that takes OTLP over HTTP, such as http://collector.observability:4318. The
    NetworkPolicy lets the pods out to its port."""


class Monitoring(Model):
    """How the agent is watched."""

    service_monitor: ServiceMonitor = ServiceMonitor()
    tracing: Tracing | None = None


class Rollout(Model):
    """How a changed agent replaces the running one."""

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
    """`RollingUpdate` replaces pods one after the other; `Recreate` ends all before it starts new ones."""
    max_surge: PodCount = 1
    """Pods above the wanted number while rolling out: a number, or a share such as "25%"."""
    max_unavailable: PodCount = 0
    """Pods below the wanted number while rolling out: a number, or a share such as "25%"."""
    termination_grace_period_seconds: Annotated[int, Field(ge=10, le=7200)] | None = None
    """Seconds that a pod has to finish its requests when it is deleted; when not set, the longer of the timeouts of
    requests and streams, and 15."""


def _names(entries: Sequence[Container] | Sequence[Volume] | Sequence[VolumeMount] | None) -> set[str]:
    return {each.name for each in entries or ()}


class AgentSpec(Model):
    """What the agent is to be."""

    rules = (
        Rule(
            cel="self.agent.provider != 'anthropic' || has(self.apiKey.secretName) || has(self.apiKey.value)",
            message="provider anthropic needs a key: set apiKey.secretName to a Secret that holds it "
            "(or apiKey.value to try things out), or set agent.provider to echo",
            holds=lambda spec: (
                spec.agent.provider != "anthropic"
                or spec.api_key.secret_name is not None
                or spec.api_key.value is not None
            ),
            field="apiKey",
        ),
        Rule(
            cel="!self.worker.enabled || has(self.redis.url) || has(self.redis.secretName)",
            message="worker.enabled needs redis, where workers find their tasks: set redis.url or redis.secretName",
            holds=lambda spec: not spec.worker.enabled or spec.redis.given,
            field="redis",
        ),
        Rule(
            cel="!has(self.budget) || has(self.redis.url) || has(self.redis.secretName)",
            message="budget needs redis, where it is kept what was used: set redis.url or redis.secretName",
            holds=lambda spec: spec.budget is None or spec.redis.given,
            field="redis",
        ),
        Rule(
            cel="!has(self.autoscaling.engine) || self.autoscaling.engine != 'keda' "
            "|| has(self.autoscaling.prometheusAddress) "
            "|| !((self.autoscaling.enabled && has(self.autoscaling.targetInFlightRequests)) "
            "|| (self.worker.enabled && self.worker.autoscaling.enabled))",
            message="autoscaling.engine keda asks Prometheus for requests in flight and tasks: "
            "set autoscaling.prometheusAddress",
            holds=lambda spec: not spec.asks_prometheus or spec.autoscaling.prometheus_address is not None,
            field="autoscaling",
        ),
        Rule(
            cel="!has(self.budget) || !has(self.budget.cost) "
            "|| (has(self.budget.prices) && self.agent.model in self.budget.prices)",
            message="budget.cost needs the prices of agent.model: add budget.prices with the model's id as the key",
            holds=lambda spec: (
                spec.budget is None or spec.budget.cost is None or spec.agent.model in (spec.budget.prices or {})
            ),
            field="budget",
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
            message="a mount of extraVolumeMounts names no volume: add the volume to extraVolumes, or correct the name",
            holds=lambda spec: _names(spec.extra_volume_mounts) <= {"tmp", "secrets"} | _names(spec.extra_volumes),
            field="extraVolumeMounts",
        ),
    )

    image: Image = Image()
    image_pull_secrets: (
        Annotated[list[ObjectReference], Field(max_length=16, json_schema_extra=keyed("name"))] | None
    ) = None
    """Secrets of the same namespace with which the image is pulled."""
    agent: Agent = Agent()
    api_key: ApiKey = ApiKey()
    auth: Auth = Auth()
    replicas: Replicas = 1
    """Number of pods while autoscaling is off. `kubectl scale` sets it."""
    autoscaling: Autoscaling = Autoscaling()
    worker: Worker = Worker()
    redis: Redis = Redis()
    service: Service = Service()
    ingress: Ingress = Ingress()
    http_route: HttpRoute = HttpRoute()
    rate_limit: RateLimit = RateLimit()
    budget: Budget | None = None
    """What the agent may use in a day or a month; as much as it likes when not set."""
    cors: Cors = Cors()
    logging: Logging = Logging()
    resources: Resources = Resources(requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "512Mi"})
    node_selector: Labels | None = None
    """Labels that a node must carry to run the pods."""
    tolerations: Annotated[list[Toleration], Field(max_length=32, json_schema_extra=ATOMIC)] | None = None
    """Taints of nodes that the pods put up with."""
    affinity: Annotated[dict[str, Any], AsWritten(Affinity)] | None = None
    """Which nodes and which other pods the pods keep to or from, as `affinity` of a pod has it."""
    topology_spread_constraints: (
        Annotated[
            list[SpreadConstraint],
            Field(max_length=8, json_schema_extra=keyed("topologyKey", "whenUnsatisfiable")),
        ]
        | None
    ) = None
    """How the pods are spread; over nodes and zones, as well as can be, when not set."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods."""
    service_account: ServiceAccount = ServiceAccount()
    pod_annotations: Annotations | None = None
    """Annotations of the pods. A change replaces the pods."""
    pod_labels: PodLabels | None = None
    """Labels of the pods, besides our own. A change replaces the pods."""
    pod_security_context: Annotated[dict[str, Any], AsWritten(PodSecurityContext)] = {  # noqa: RUF012  pydantic copies it
        "runAsNonRoot": True,
        "runAsUser": UID,
        "runAsGroup": UID,
        "fsGroup": UID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    """Security settings of the pods. What is set here replaces the default, which keeps the restricted Pod Security
    Standard, as a whole."""
    security_context: Annotated[dict[str, Any], AsWritten(SecurityContext)] = {  # noqa: RUF012  pydantic copies it
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    """Security settings of the agent's container. What is set here replaces the default, which keeps the restricted
    Pod Security Standard, as a whole."""
    extra_env: Annotated[list[EnvVar], Field(max_length=64, json_schema_extra=keyed("name"))] | None = None
    """Environment variables of the agent's container. They win over the settings that other fields make."""
    env_from: Annotated[list[EnvSource], Field(max_length=16, json_schema_extra=ATOMIC)] | None = None
    """ConfigMaps and Secrets whose keys become environment variables of the agent's container."""
    extra_volumes: Annotated[list[Volume], Field(max_length=32, json_schema_extra=keyed("name"))] | None = None
    """Further volumes of the pods."""
    extra_volume_mounts: (
        Annotated[list[VolumeMount], Field(max_length=32, json_schema_extra=keyed("mountPath"))] | None
    ) = None
    """Further volumes in the agent's container."""
    init_containers: Annotated[list[Container], Field(max_length=16, json_schema_extra=keyed("name"))] | None = None
    """Containers that run to their end before the agent starts."""
    sidecars: Annotated[list[Container], Field(max_length=16, json_schema_extra=keyed("name"))] | None = None
    """Containers that run beside the agent."""
    pod_disruption_budget: PodDisruptionBudget = PodDisruptionBudget()
    network_policy: NetworkPolicy = NetworkPolicy()
    monitoring: Monitoring = Monitoring()
    rollout: Rollout = Rollout()

    @property
    def asks_prometheus(self) -> bool:
        """Whether KEDA is to scale by what only Prometheus knows."""
        by_requests = self.autoscaling.enabled and self.autoscaling.target_in_flight_requests is not None
        by_queue = self.worker.enabled and self.worker.autoscaling.enabled
        return self.autoscaling.engine == "keda" and (by_requests or by_queue)
