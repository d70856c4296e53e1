"""The runtime: the container of the user's own agent, which answers in place of the built-in agent."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.core_v1 import HARDENED, EnvSource, EnvVar, KeyReference, Resources, VolumeMount
from agent_operator.api.kubernetes.containers import LongTexts
from agent_operator.api.kubernetes.core import SecurityContext
from agent_operator.api.kubernetes.part import ATOMIC, AsWritten, keyed
from agent_operator.api.networking import Port
from agent_operator.api.rules import Rule

CONTAINER = "runtime"
# Volumes and folders of the runtime that belong to Portside.
TMP_VOLUME = "runtime-tmp"
CODE_VOLUME = "runtime-code"
PROMPT_VOLUME = "runtime-prompt"
TMP_DIR = "/tmp"  # noqa: S108  a folder of the pod
CODE_DIR = "/etc/portside/agent"
PROMPT_DIR = "/etc/portside/prompt"
_VOLUMES = (TMP_VOLUME, CODE_VOLUME, PROMPT_VOLUME)
_FOLDERS = (TMP_DIR, CODE_DIR, PROMPT_DIR)
# Ports of the agent's container, which shares its network with the runtime: API, gateway, metrics.
OUR_PORTS = (8000, 8089, 9090)

_Path = Annotated[str, StringConstraints(pattern=r"^/[!-~]*$", min_length=1, max_length=1024)]


class RuntimeMount(VolumeMount):
    """A volume that is mounted in the runtime: one of `extraVolumes`, or `runtime-tmp`, the volume of /tmp."""

    rules = (
        Rule(
            cel=f"!(self.mountPath in {list(_FOLDERS)})",
            message="the runtime's folders /tmp, /etc/portside/agent and /etc/portside/prompt belong to Portside: "
            "choose another mountPath",
            holds=lambda mount: mount.mount_path not in _FOLDERS,
            field="mountPath",
        ),
    )


class RuntimeCode(Model):
    """A Python file that the image of Portside runs as the agent."""

    config_map_key_ref: KeyReference
    """Key of a ConfigMap in the same namespace that contains the file. Changes to the ConfigMap take effect without a
    restart."""


class Runtime(Model):
    """The agent's own container. It runs in each pod beside the container of Portside, which sends it the turns and
    provides it with the model API on loopback. If unset, the built-in agent answers."""

    rules = (
        Rule(
            cel="has(self.image) != has(self.code)",
            message="set exactly one of runtime.image (an image that contains the agent) and runtime.code (a Python "
            "file in a ConfigMap)",
            holds=lambda runtime: (runtime.image is None) != (runtime.code is None),
        ),
        Rule(
            cel="!has(self.code) || !(has(self.command) || has(self.args) || has(self.imagePullPolicy))",
            message="runtime.command, runtime.args and runtime.imagePullPolicy have no effect with runtime.code: "
            "remove them, or set runtime.image instead of runtime.code",
            holds=lambda runtime: (
                runtime.code is None
                or (runtime.command is None and runtime.args is None and runtime.image_pull_policy is None)
            ),
            field="code",
        ),
        Rule(
            cel=f"!(self.port in {list(OUR_PORTS)})",
            message="runtime.port must not be 8000, 8089 or 9090, on which Portside's own container listens: "
            "choose another port",
            holds=lambda runtime: runtime.port not in OUR_PORTS,
            field="port",
        ),
    )

    image: Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=1, max_length=512)] | None = None
    """Image of the container, with its tag or digest, such as `registry.example.com/agent:1.2`."""
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] | None = None
    """When the kubelet pulls the image: `IfNotPresent`, `Always` or `Never`. Defaults to `Always` for the tag
    `latest`, and to `IfNotPresent` otherwise."""
    code: RuntimeCode | None = None
    """A Python file to run instead of an image."""
    command: LongTexts | None = None
    """Program to run, instead of the entrypoint of the image."""
    args: LongTexts | None = None
    """Arguments of the program, instead of those of the image."""
    env: Annotated[list[EnvVar], Field(max_length=64, json_schema_extra=keyed("name"))] | None = None
    """Environment variables of the container. They take precedence over those that Portside sets."""
    env_from: Annotated[list[EnvSource], Field(max_length=16, json_schema_extra=ATOMIC)] | None = None
    """ConfigMaps and Secrets whose keys become environment variables of the container. Variables that Portside sets
    take precedence over them."""
    working_dir: Annotated[str, StringConstraints(pattern=r"^[^\x00]+$", min_length=1, max_length=1024)] | None = None
    """Working directory of the program. Defaults to that of the image."""
    volume_mounts: Annotated[list[RuntimeMount], Field(max_length=32, json_schema_extra=keyed("mountPath"))] | None = (
        None
    )
    """Volumes that are mounted in the container: those of `extraVolumes`, and `runtime-tmp`, the writable volume that
    the container has as /tmp."""
    resources: Resources = Resources(requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "1Gi"})
    security_context: Annotated[dict[str, Any], AsWritten(SecurityContext)] = HARDENED
    """Security settings of the container. A value set here replaces the entire default, which meets the restricted Pod
    Security Standard. The container runs as the user of its image, unless a user is set here or in a
    `podSecurityContext` other than the default."""
    protocol: Literal["invocations", "a2a", "openai", "http"] = "invocations"
    """How the runtime is called: `invocations` (POST /invocations, as in Bedrock AgentCore), `a2a` (A2A), `openai`
    (chat completions), or `http` (all requests are forwarded unchanged)."""
    port: Port = 8080
    """Port that the runtime listens on, on all addresses of the pod. The variable `PORT` contains it."""
    path: _Path | None = None
    """Path that is called. Defaults to `/invocations`, to `/v1/chat/completions` (`openai`), to the address in the
    agent card (`a2a`), or to `/` (`http`)."""
    health_path: _Path | None = None
    """Path that responds with 2xx while the runtime works. Defaults to `/ping`, `/.well-known/agent-card.json`
    (`a2a`), `/health` (`openai`) or `/` (`http`)."""
    startup_seconds: Annotated[int, Field(ge=1, le=3600)] = 120
    """Seconds that the runtime has to respond at `healthPath` after its start. Afterwards it is restarted."""
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 128_000
    """Maximum number of tokens in one answer of the model to the runtime. A higher `max_tokens` of a call is lowered
    to it."""
    prompt_caching: bool = True
    """Whether the beginning of a conversation is marked for the cache of the model API where the runtime marks
    nothing."""


def _names(entries: Any) -> set[str]:
    return {each.name for each in entries or ()}


SPEC_RULES = (
    Rule(
        cel="!has(self.runtime) || !("
        "(has(self.sidecars) && self.sidecars.exists(each, each.name == 'runtime')) "
        "|| (has(self.initContainers) && self.initContainers.exists(each, each.name == 'runtime')))",
        message="with a runtime, the container runtime is Portside's own: "
        "rename the container in sidecars or initContainers",
        holds=lambda spec: (
            spec.runtime is None or CONTAINER not in _names(spec.sidecars) | _names(spec.init_containers)
        ),
        field="runtime",
    ),
    Rule(
        cel=f"!has(self.runtime) || !has(self.extraVolumes) "
        f"|| self.extraVolumes.all(each, !(each.name in {list(_VOLUMES)}))",
        message="with a runtime, the volumes runtime-tmp, runtime-code and runtime-prompt are Portside's own: "
        "choose another name",
        holds=lambda spec: spec.runtime is None or not _names(spec.extra_volumes) & set(_VOLUMES),
        field="extraVolumes",
    ),
    Rule(
        cel="!has(self.runtime) || !has(self.runtime.volumeMounts) "
        f"|| self.runtime.volumeMounts.all(each, each.name == '{TMP_VOLUME}' "
        "|| (has(self.extraVolumes) && self.extraVolumes.exists(other, other.name == each.name)))",
        message="a mount in runtime.volumeMounts refers to an unknown volume: "
        "add the volume to extraVolumes, or correct the name",
        holds=lambda spec: (
            spec.runtime is None or _names(spec.runtime.volume_mounts) <= {TMP_VOLUME} | _names(spec.extra_volumes)
        ),
        field="runtime.volumeMounts",
    ),
)
"""Rules of a whole spec that has a runtime."""
