"""The fields of an additional container of the pods (Kubernetes API reference: Container)."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.core_v1 import DnsLabel
from agent_operator.api.kubernetes.core import EnvVarSource, SecurityContext
from agent_operator.api.kubernetes.part import ATOMIC, WHOLE, LongText, Number, NumberOrText, Part, Text, listed
from agent_operator.api.rules import Rule

LongTexts = Annotated[list[LongText], Field(max_length=1000, json_schema_extra=ATOMIC)]
# Kubernetes also accepts fractions such as 0.5, for which a structural schema has no type.
AnyAmounts = Annotated[dict[str, Any], Field(max_length=1000, json_schema_extra=WHOLE)]


class Variable(Part):
    """An environment variable."""

    name: Text
    """Name of the variable."""
    value: LongText | None = None
    """Value of the variable."""
    value_from: EnvVarSource | None = None
    """Source of the value."""


class ReferenceToAll(Part):
    """A reference to an object whose keys are all used."""

    name: Text | None = None
    """Name of the object."""
    optional: bool | None = None
    """Whether the object may be missing."""


class VariablesSource(Part):
    """An object whose keys become environment variables."""

    prefix: Text | None = None
    """Prefix added to each key."""
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
    """Value of the header."""


class HttpGet(Part):
    """A GET request to the container."""

    port: NumberOrText
    """Number or name of the port."""
    path: Text | None = None
    """Path of the request."""
    host: Text | None = None
    """Host of the request. Defaults to the pod itself."""
    scheme: Text | None = None
    """Scheme of the request: `HTTP` or `HTTPS`."""
    http_headers: Annotated[list[Header], listed()] | None = None
    """Additional headers of the request."""


class TcpSocket(Part):
    """A TCP connection to the container."""

    port: NumberOrText
    """Number or name of the port."""
    host: Text | None = None
    """Host of the connection. Defaults to the pod itself."""


class GrpcCall(Part):
    """A gRPC health check."""

    port: Number
    """Number of the port."""
    service: Text | None = None
    """Name of the service to check."""


class ContainerProbe(Part):
    """A probe that the kubelet performs periodically."""

    exec: Command | None = None
    """A command that must succeed."""
    http_get: HttpGet | None = None
    """A request that must succeed."""
    tcp_socket: TcpSocket | None = None
    """A connection that must be accepted."""
    grpc: GrpcCall | None = None
    """A gRPC health check that must succeed."""
    initial_delay_seconds: Number | None = None
    """Seconds from the start of the container to the first probe."""
    period_seconds: Number | None = None
    """Seconds between probes."""
    timeout_seconds: Number | None = None
    """Timeout of a probe in seconds."""
    success_threshold: Number | None = None
    """Consecutive successes after which the probe counts as successful."""
    failure_threshold: Number | None = None
    """Consecutive failures after which the probe counts as failed."""
    termination_grace_period_seconds: Number | None = None
    """Seconds that the container has to stop after the probe has failed."""


class Sleep(Part):
    """A pause."""

    seconds: Number
    """Length of the pause in seconds."""


class LifecycleHandler(Part):
    """An action at a point of the container lifecycle."""

    exec: Command | None = None
    """A command that runs in the container."""
    http_get: HttpGet | None = None
    """A request to the container."""
    tcp_socket: TcpSocket | None = None
    """Deprecated, without effect."""
    sleep: Sleep | None = None
    """A pause."""


class Lifecycle(Part):
    """Actions after the start of a container and before its end."""

    post_start: LifecycleHandler | None = None
    """Action after the container has started."""
    pre_stop: LifecycleHandler | None = None
    """Action before the container is terminated."""
    stop_signal: Text | None = None
    """Signal that stops the container."""


class ContainerPort(Part):
    """A port of the container."""

    container_port: Number
    """Number of the port."""
    name: Text | None = None
    """Name of the port."""
    protocol: Text | None = None
    """Protocol of the port: `TCP`, `UDP` or `SCTP`."""
    host_port: Number | None = None
    """Port of the node that forwards to the container port."""
    host_ip: Text | None = Field(default=None, alias="hostIP")
    """Address of the node that `hostPort` is bound to."""


class ResourceClaim(Part):
    """A resource claim of the pod that the container uses."""

    name: Text
    """Name of the claim in the pod."""
    request: Text | None = None
    """Name of a request of the claim. If unset, all requests of the claim are used."""


class ContainerResources(Part):
    """Compute resources of the container."""

    requests: AnyAmounts | None = None
    """Resources that the container is guaranteed and scheduled by."""
    limits: AnyAmounts | None = None
    """Maximum resources that the container may use."""
    claims: Annotated[list[ResourceClaim], listed()] | None = None
    """Resource claims of the pod that the container uses."""


class ResizePolicy(Part):
    """How a change of a resource affects the container."""

    resource_name: Text
    """Name of the resource: `cpu` or `memory`."""
    restart_policy: Text
    """Whether the change restarts the container: `NotRequired` or `RestartContainer`."""


class ExitCodes(Part):
    """Exit codes of the container."""

    operator: Text
    """Operator: `In` or `NotIn`."""
    values: Annotated[list[Number], listed()] | None = None
    """The exit codes."""


class RestartRule(Part):
    """When the container is restarted."""

    action: Text
    """Action of the rule: `Restart` or `RestartAllContainers`."""
    exit_codes: ExitCodes | None = None
    """Exit codes that the rule applies to."""


class ContainerMount(Part):
    """A volume that is mounted in the container."""

    name: Text
    """Name of the volume."""
    mount_path: Text
    """Path at which the volume is mounted."""
    sub_path: Text | None = None
    """Path inside the volume."""
    sub_path_expr: Text | None = None
    """Path inside the volume, in which variables are written as `$(NAME)`."""
    read_only: bool | None = None
    """Whether the mount is read-only."""
    recursive_read_only: Text | None = None
    """Whether mounts inside it are read-only too: `Disabled`, `IfPossible` or `Enabled`."""
    mount_propagation: Text | None = None
    """How mounts are propagated between the node and the container: `None`, `HostToContainer` or `Bidirectional`."""


class ContainerDevice(Part):
    """A block device in the container."""

    name: Text
    """Name of the volume."""
    device_path: Text
    """Path of the device in the container."""


class Container(Model):
    """An additional container of the pods, as in the core API. The agent's hardening does not apply to it by itself."""

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
    """Image of the container."""
    image_pull_policy: Text | None = None
    """When the image is pulled: `Always`, `IfNotPresent` or `Never`."""
    command: LongTexts | None = None
    """Program to run, instead of the entrypoint of the image."""
    args: LongTexts | None = None
    """Arguments of the program, instead of those of the image."""
    working_dir: Text | None = None
    """Working directory of the program."""
    env: Annotated[list[Variable], listed(by="name")] | None = None
    """Environment variables."""
    env_from: Annotated[list[VariablesSource], listed()] | None = None
    """ConfigMaps and Secrets whose keys become environment variables."""
    ports: Annotated[list[ContainerPort], listed()] | None = None
    """Ports that the container listens on."""
    resources: ContainerResources | None = None
    """Compute resources."""
    resize_policy: Annotated[list[ResizePolicy], listed()] | None = None
    """How changes of the resources affect the container."""
    volume_mounts: Annotated[list[ContainerMount], listed(by="mountPath")] | None = None
    """Volumes that are mounted in the container."""
    volume_devices: Annotated[list[ContainerDevice], listed(by="devicePath")] | None = None
    """Block devices in the container."""
    startup_probe: ContainerProbe | None = None
    """Checks whether the program has started. The other probes begin afterwards."""
    liveness_probe: ContainerProbe | None = None
    """Checks whether the container works. If not, the container is restarted."""
    readiness_probe: ContainerProbe | None = None
    """Checks whether the container can serve. If not, the pod receives no requests."""
    lifecycle: Lifecycle | None = None
    """Actions after the start and before the end of the container."""
    restart_policy: Text | None = None
    """`Always` makes an init container a sidecar, which starts before the agent and runs alongside it."""
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
    """Path of the file that contains the termination message."""
    termination_message_policy: Text | None = None
    """Source of the termination message: `File` or `FallbackToLogsOnError`."""
