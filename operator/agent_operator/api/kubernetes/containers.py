"""What a further container of the pods may hold (Kubernetes API reference: Container)."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.core_v1 import DnsLabel
from agent_operator.api.kubernetes.core import EnvVarSource, SecurityContext
from agent_operator.api.kubernetes.part import ATOMIC, WHOLE, LongText, Number, NumberOrText, Part, Text, listed
from agent_operator.api.rules import Rule

LongTexts = Annotated[list[LongText], Field(max_length=1000, json_schema_extra=ATOMIC)]
# Kubernetes takes fractions such as 0.5 as well, for which a structural schema has no type.
AnyAmounts = Annotated[dict[str, Any], Field(max_length=1000, json_schema_extra=WHOLE)]


class Variable(Part):
    """An environment variable."""

    name: Text
    """Name of the variable."""
    value: LongText | None = None
    """Its value."""
    value_from: EnvVarSource | None = None
    """Where its value comes from."""


class ReferenceToAll(Part):
    """An object, all of whose keys are used."""

    name: Text | None = None
    """Name of the object."""
    optional: bool | None = None
    """Whether it may be missing."""


class VariablesSource(Part):
    """An object whose keys become environment variables."""

    prefix: Text | None = None
    """Put before each key."""
    config_map_ref: ReferenceToAll | None = None
    """The ConfigMap."""
    secret_ref: ReferenceToAll | None = None
    """The Secret."""


class Command(Part):
    """A command that runs in the container."""

    command: LongTexts | None = None
    """The program and its arguments."""


class Header(Part):
    """A header of a request."""

    name: Text
    """Name of the header."""
    value: Text
    """Its value."""


class HttpGet(Part):
    """A GET request to the container."""

    port: NumberOrText
    """Number or name of the port."""
    path: Text | None = None
    """Path of the request."""
    host: Text | None = None
    """Host of the request; the pod itself when not set."""
    scheme: Text | None = None
    """`HTTP` or `HTTPS`."""
    http_headers: Annotated[list[Header], listed()] | None = None
    """Further headers of the request."""


class TcpSocket(Part):
    """A connection to the container."""

    port: NumberOrText
    """Number or name of the port."""
    host: Text | None = None
    """Host of the connection; the pod itself when not set."""


class GrpcCall(Part):
    """A health check of gRPC."""

    port: Number
    """Number of the port."""
    service: Text | None = None
    """Name of the service that is checked."""


class ContainerProbe(Part):
    """A check that the kubelet repeats."""

    exec: Command | None = None
    """A command that must succeed."""
    http_get: HttpGet | None = None
    """A request that must succeed."""
    tcp_socket: TcpSocket | None = None
    """A connection that must be accepted."""
    grpc: GrpcCall | None = None
    """A health check of gRPC that must succeed."""
    initial_delay_seconds: Number | None = None
    """Seconds from the start to the first check."""
    period_seconds: Number | None = None
    """Seconds from check to check."""
    timeout_seconds: Number | None = None
    """Seconds that a check may take."""
    success_threshold: Number | None = None
    """Successes in a row after which it has succeeded."""
    failure_threshold: Number | None = None
    """Failures in a row after which it has failed."""
    termination_grace_period_seconds: Number | None = None
    """Seconds that the container has to stop after it has failed."""


class Sleep(Part):
    """A pause."""

    seconds: Number
    """Its length in seconds."""


class LifecycleHandler(Part):
    """What happens at a point of a container's life."""

    exec: Command | None = None
    """A command that runs in the container."""
    http_get: HttpGet | None = None
    """A request to the container."""
    tcp_socket: TcpSocket | None = None
    """Deprecated, and without effect."""
    sleep: Sleep | None = None
    """A pause."""


class Lifecycle(Part):
    """What happens after the start of a container, and before its end."""

    post_start: LifecycleHandler | None = None
    """After the start."""
    pre_stop: LifecycleHandler | None = None
    """Before the end."""
    stop_signal: Text | None = None
    """Signal that ends the container."""


class ContainerPort(Part):
    """A port of the container."""

    container_port: Number
    """Number of the port."""
    name: Text | None = None
    """Name of the port."""
    protocol: Text | None = None
    """`TCP`, `UDP` or `SCTP`."""
    host_port: Number | None = None
    """Port of the node that leads to it."""
    host_ip: Text | None = Field(default=None, alias="hostIP")
    """Address of the node that `hostPort` is bound to."""


class ResourceClaim(Part):
    """A claim of the pod that the container uses."""

    name: Text
    """Name of the claim in the pod."""
    request: Text | None = None
    """Name of a request of the claim; all of them when not set."""


class ContainerResources(Part):
    """Compute resources of the container."""

    requests: AnyAmounts | None = None
    """What it is promised, and scheduled by."""
    limits: AnyAmounts | None = None
    """What it may use at most."""
    claims: Annotated[list[ResourceClaim], listed()] | None = None
    """Claims of the pod that it uses."""


class ResizePolicy(Part):
    """What a change of a resource does to the container."""

    resource_name: Text
    """`cpu` or `memory`."""
    restart_policy: Text
    """`NotRequired` or `RestartContainer`."""


class ExitCodes(Part):
    """Exit codes of the container."""

    operator: Text
    """`In` or `NotIn`."""
    values: Annotated[list[Number], listed()] | None = None
    """The codes."""


class RestartRule(Part):
    """When the container is restarted."""

    action: Text
    """`Restart` or `RestartAllContainers`."""
    exit_codes: ExitCodes | None = None
    """Exit codes that the rule is for."""


class ContainerMount(Part):
    """A volume in the container."""

    name: Text
    """Name of the volume."""
    mount_path: Text
    """Where it appears."""
    sub_path: Text | None = None
    """Path inside the volume."""
    sub_path_expr: Text | None = None
    """Path inside the volume, with variables as `$(NAME)`."""
    read_only: bool | None = None
    """Whether it cannot be written to."""
    recursive_read_only: Text | None = None
    """Whether that holds for mounts inside it: `Disabled`, `IfPossible` or `Enabled`."""
    mount_propagation: Text | None = None
    """Whether mounts are seen on both sides: `None`, `HostToContainer` or `Bidirectional`."""


class ContainerDevice(Part):
    """A block device in the container."""

    name: Text
    """Name of the volume."""
    device_path: Text
    """Where it appears."""


class Container(Model):
    """A further container of the pods, as the core API has it. It gets none of the agent's hardening by itself."""

    model_config = ConfigDict(extra="allow", json_schema_extra=WHOLE)

    rules = (
        Rule(
            cel="self.name != 'agent'",
            message="the container agent is Portside's own: choose another name",
            holds=lambda container: container.name != "agent",
            field="name",
        ),
    )

    name: DnsLabel
    """Name of the container."""
    image: Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=1, max_length=512)]
    """Its image."""
    image_pull_policy: Text | None = None
    """When the image is pulled: `Always`, `IfNotPresent` or `Never`."""
    command: LongTexts | None = None
    """Program that runs, in place of the image's entrypoint."""
    args: LongTexts | None = None
    """Arguments, in place of the image's."""
    working_dir: Text | None = None
    """Folder that the program starts in."""
    env: Annotated[list[Variable], listed()] | None = None
    """Environment variables."""
    env_from: Annotated[list[VariablesSource], listed()] | None = None
    """ConfigMaps and Secrets whose keys become environment variables."""
    ports: Annotated[list[ContainerPort], listed()] | None = None
    """Ports that the container listens on."""
    resources: ContainerResources | None = None
    """Compute resources."""
    resize_policy: Annotated[list[ResizePolicy], listed()] | None = None
    """What a change of the resources does to the container."""
    volume_mounts: Annotated[list[ContainerMount], listed()] | None = None
    """Volumes in the container."""
    volume_devices: Annotated[list[ContainerDevice], listed()] | None = None
    """Block devices in the container."""
    startup_probe: ContainerProbe | None = None
    """Whether the program has started. The other checks begin afterwards."""
    liveness_probe: ContainerProbe | None = None
    """Whether the container works; if not, it is restarted."""
    readiness_probe: ContainerProbe | None = None
    """Whether the container can serve; if not, the pod receives no requests."""
    lifecycle: Lifecycle | None = None
    """What happens after the start and before the end."""
    restart_policy: Text | None = None
    """`Always` makes an init container a sidecar, which starts before the agent and runs beside it."""
    restart_policy_rules: Annotated[list[RestartRule], listed()] | None = None
    """When the container is restarted."""
    security_context: SecurityContext | None = None
    """Security settings."""
    stdin: bool | None = None
    """Whether standard input is open."""
    stdin_once: bool | None = None
    """Whether standard input is closed after the first client."""
    tty: bool | None = None
    """Whether the container has a terminal."""
    termination_message_path: Text | None = None
    """File with the message of its end."""
    termination_message_policy: Text | None = None
    """Where the message of its end comes from: `File` or `FallbackToLogsOnError`."""
