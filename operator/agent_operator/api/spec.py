"""`AgentDeployment.spec`: everything an agent can be told, and the only definition of it.

The CRD, the chart's values and schema and the field reference are generated from these models. A default stands here
only when it is the right value on every cluster for as long as v1alpha1 lives; the API server writes it into each
object.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.pods import (
    DNS_SUBDOMAIN,
    Annotations,
    Labels,
    ObjectReference,
    PodCount,
    PodLabels,
    Resources,
    Toleration,
)
from agent_operator.api.rules import Rule

DEFAULT_MODEL = "claude-sonnet-5-5"
SECRET_KEY = "ANTHROPIC_API_KEY"  # noqa: S105  the name of a key in a Secret, not its value

Replicas = Annotated[int, Field(ge=0, le=1000)]
AtLeastOne = Annotated[int, Field(ge=1, le=1000)]
Name = Annotated[str, StringConstraints(pattern=DNS_SUBDOMAIN, min_length=1, max_length=253)]


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


class Agent(Model):
    """What the agent is: its model, its instructions and its limits."""

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
    base_url: (
        Annotated[
            str, StringConstraints(pattern=r"^https?://[A-Za-z0-9\[][A-Za-z0-9.:\]-]*(/[!-~]*)?$", max_length=2048)
        ]
        | None
    ) = None
    """Address of the model API, for a gateway or proxy; the provider's own when not set."""
    request_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """Seconds that one request may take in all."""
    environment: Literal["development", "staging", "production", "testing"] = "production"
    """What the deployment is for. In `production` the API's own documentation is off."""


class ApiKey(Model):
    """The key of the model API: from an existing Secret, or written here for trying things out."""

    rules = (
        Rule(
            cel="!(has(self.value) && has(self.secretName))",
            message="set apiKey.secretName or apiKey.value, not both: remove one of them",
            holds=lambda key: key.value is None or key.secret_name is None,
        ),
    )

    secret_name: Name | None = None
    """Name of a Secret in the same namespace that holds the key. A changed Secret is used with no restart."""
    secret_key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)] = (
        SECRET_KEY
    )
    """Key inside that Secret."""
    value: Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=1, max_length=4096)] | None = None
    """The key itself. Whoever can read this object can read it: for trying things out only."""


class Autoscaling(Model):
    """A HorizontalPodAutoscaler for the agent's pods."""

    rules = (
        Rule(
            cel="self.minReplicas <= self.maxReplicas",
            message="autoscaling.minReplicas must not exceed autoscaling.maxReplicas: lower one or raise the other",
            holds=lambda scaling: scaling.min_replicas <= scaling.max_replicas,
            field="minReplicas",
        ),
    )

    enabled: bool = False
    """Whether the number of pods follows their load. If so, `replicas` has no say."""
    min_replicas: AtLeastOne = 1
    """Fewest pods."""
    max_replicas: AtLeastOne = 10
    """Most pods."""
    target_cpu_utilization_percentage: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, alias="targetCPUUtilizationPercentage"
    )
    """CPU use to keep, in percent of the requested CPU; 70 when no target is set at all."""
    target_memory_utilization_percentage: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Memory use to keep, in percent of the requested memory."""


class Service(Model):
    """The Service in front of the agent's pods."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """How the Service is reached: `ClusterIP` (inside the cluster), `NodePort` or `LoadBalancer`."""
    port: Annotated[int, Field(ge=1, le=65535)] = 80
    """Port of the Service."""
    annotations: Annotations | None = None
    """Annotations of the Service, as load balancers read them."""


class Logging(Model):
    """What the agent API logs, and how."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level that is logged."""
    format: Literal["json", "text"] = "json"
    """One JSON object a line, or text for people."""


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

    max_surge: PodCount = 1
    """Pods above the wanted number while rolling out: a number, or a share such as "25%"."""
    max_unavailable: PodCount = 0
    """Pods below the wanted number while rolling out: a number, or a share such as "25%"."""
    termination_grace_period_seconds: Annotated[int, Field(ge=10, le=7200)] | None = None
    """Seconds that a pod has to finish its requests once told to stop; when not set, the request timeout and 15."""


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
    )

    image: Image = Image()
    image_pull_secrets: (
        Annotated[
            list[ObjectReference],
            Field(
                max_length=16,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            ),
        ]
        | None
    ) = None
    """Secrets of the same namespace with which the image is pulled."""
    agent: Agent = Agent()
    api_key: ApiKey = ApiKey()
    replicas: Replicas = 1
    """Number of pods while autoscaling is off. `kubectl scale` sets it."""
    autoscaling: Autoscaling = Autoscaling()
    service: Service = Service()
    logging: Logging = Logging()
    resources: Resources = Resources(requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "512Mi"})
    node_selector: Labels | None = None
    """Labels that a node must carry to run the pods."""
    tolerations: (
        Annotated[list[Toleration], Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"})] | None
    ) = None
    """Taints of nodes that the pods put up with."""
    pod_annotations: Annotations | None = None
    """Annotations of the pods. A change replaces the pods."""
    pod_labels: PodLabels | None = None
    """Labels of the pods, besides our own. A change replaces the pods."""
    rollout: Rollout = Rollout()
