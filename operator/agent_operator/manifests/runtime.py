"""The runtime of an agent: a native sidecar, its volumes, and the settings by which the service reaches it.

A native sidecar (Kubernetes: "Sidecar Containers") is an init container that keeps running. The agent's container
starts once the runtime is up, and the runtime is stopped after the agent's container has ended.
"""

from typing import Any

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.runtime import (
    CODE_DIR,
    CODE_VOLUME,
    CONTAINER,
    PROMPT_DIR,
    PROMPT_VOLUME,
    TMP_DIR,
    TMP_VOLUME,
    Runtime,
)
from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.container import amounts, as_written, http_probe, image_reference, variables
from agent_operator.manifests.document import Document, without_empty
from agent_operator.manifests.names import GATEWAY_PORT
from agent_operator.manifests.secrets_volume import SYSTEM_PROMPT
from agent_operator.manifests.tools import has_image_of_its_own
from agent_operator.manifests.tracing import tracing_variables

_LOOPBACK = "http://127.0.0.1"
# The SDKs of the model APIs do not start without a key. The gateway ignores it.
_PLACEHOLDER = "portside-gateway"
# Where each protocol is asked whether the runtime works (the service: RUNTIME_HEALTH_PATH).
HEALTH_PATHS = {
    "invocations": "/ping",
    "a2a": "/.well-known/agent-card.json",
    "openai": "/health",
    "http": "/",
}
_USER = ("runAsUser", "runAsGroup")


def runtime_settings(agent: AgentDeployment) -> dict[str, str | None]:
    """Return the settings of the service for the runtime and the gateway; nothing without a runtime."""
    runtime = agent.spec.runtime
    if runtime is None:
        return {}
    return {
        "RUNTIME_URL": f"{_LOOPBACK}:{runtime.port}",
        "RUNTIME_PROTOCOL": runtime.protocol,
        "RUNTIME_PATH": runtime.path,
        "RUNTIME_HEALTH_PATH": runtime.health_path,
        "GATEWAY_PORT": str(GATEWAY_PORT),
        "GATEWAY_MODELS": ",".join(agent.spec.agent.models or []) or None,
        "GATEWAY_MAX_TOKENS": str(runtime.max_tokens),
        "GATEWAY_PROMPT_CACHING": str(runtime.prompt_caching).lower(),
    }


def runtime_containers(agent: AgentDeployment) -> list[Document]:
    """Return the runtime's container, or nothing without a runtime."""
    runtime = agent.spec.runtime
    if runtime is None:
        return []
    health = runtime.health_path or HEALTH_PATHS[runtime.protocol], runtime.port
    container = without_empty(
        {
            "name": CONTAINER,
            **_program(agent.spec, runtime),
            "restartPolicy": "Always",
            "workingDir": runtime.working_dir,
            "envFrom": as_written(runtime.env_from),
            "env": _variables(agent, runtime),
            "volumeMounts": [*_mounts(agent.spec, runtime), *as_written(runtime.volume_mounts)],
            "resources": amounts(runtime.resources),
            "startupProbe": http_probe(
                *health, periodSeconds=1, failureThreshold=runtime.startup_seconds, timeoutSeconds=1
            ),
            # More lenient than for our own container: a program of one thread answers no probe during a turn.
            "livenessProbe": http_probe(*health, periodSeconds=10, failureThreshold=30, timeoutSeconds=5),
            "readinessProbe": http_probe(*health, periodSeconds=5, failureThreshold=3, timeoutSeconds=5),
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": dict(runtime.security_context),
        }
    )
    return [container]


def runtime_volumes(agent: AgentDeployment) -> list[Document]:
    """Return the volumes of the runtime's own, none of which contains a Secret; nothing without a runtime."""
    runtime = agent.spec.runtime
    if runtime is None:
        return []
    volumes: list[Document] = [{"name": TMP_VOLUME, "emptyDir": {}}]
    if runtime.code is not None:
        code = runtime.code.config_map_key_ref
        volumes.append(_file(CODE_VOLUME, code.name, code.key, code.key))
    if agent.spec.agent.system_prompt_from is not None:
        prompt = agent.spec.agent.system_prompt_from.config_map_key_ref
        volumes.append(_file(PROMPT_VOLUME, prompt.name, prompt.key, SYSTEM_PROMPT))
    elif agent.spec.agent.system_prompt is not None:
        volumes.append(_file(PROMPT_VOLUME, agent.name, SYSTEM_PROMPT, SYSTEM_PROMPT))
    return volumes


def pod_security_context(spec: AgentSpec) -> dict[str, Any]:
    """Return the security context of the pods.

    A container cannot undo a user that the pod sets. With a runtime or the sidecar of a tool, the default therefore
    names no user for the pod: the other containers name it themselves (`as_user_of_the_pod`), and these have the user
    of their image.
    """
    given = dict(spec.pod_security_context)
    return {key: value for key, value in given.items() if key not in _USER} if _user_per_container(spec) else given


def as_user_of_the_pod(spec: AgentSpec, container: Document) -> Document:
    """Return a container other than the runtime and the tools with the user that the pods have without them."""
    if not _user_per_container(spec):
        return container
    user = {key: spec.pod_security_context[key] for key in _USER}
    return {**container, "securityContext": user | container.get("securityContext", {})}


def _user_per_container(spec: AgentSpec) -> bool:
    default = AgentSpec.model_fields["pod_security_context"].default
    return (spec.runtime is not None or has_image_of_its_own(spec)) and spec.pod_security_context == default


def _program(spec: AgentSpec, runtime: Runtime) -> Document:
    """Return what the container runs: the user's image, or the file in the image of Portside."""
    if runtime.code is None:
        return {
            "image": runtime.image,
            "imagePullPolicy": runtime.image_pull_policy,
            "command": runtime.command,
            "args": runtime.args,
        }
    return {
        "image": image_reference(spec.image),
        "imagePullPolicy": spec.image.pull_policy,
        "args": ["runtime", "--host", "::", "--loopback-only", f"{CODE_DIR}/{runtime.code.config_map_key_ref.key}"],
    }


def _variables(agent: AgentDeployment, runtime: Runtime) -> list[Document]:
    """Return the variables of the runtime; those of the user replace ours."""
    gateway, spec = f"{_LOOPBACK}:{GATEWAY_PORT}", agent.spec.agent
    ours = {
        "PORT": str(runtime.port),
        "ANTHROPIC_BASE_URL": gateway,
        "ANTHROPIC_API_KEY": _PLACEHOLDER,
        "ANTHROPIC_MODEL": spec.model,
        "OPENAI_BASE_URL": f"{gateway}/v1",
        "OPENAI_API_KEY": _PLACEHOLDER,
        "PORTSIDE_MAX_TOKENS": str(spec.max_tokens),
        **({"PORTSIDE_MCP_URL": f"{gateway}/mcp"} if agent.spec.tools else {}),
        "PORTSIDE_MODEL": spec.model,
        **({"PORTSIDE_SYSTEM_PROMPT_FILE": f"{PROMPT_DIR}/{SYSTEM_PROMPT}"} if _has_prompt(agent.spec) else {}),
        **tracing_variables(agent),
        "AGENT_NAME": agent.name,
        "AGENT_NAMESPACE": agent.namespace,
    }
    return variables(ours, runtime.env)


def _mounts(spec: AgentSpec, runtime: Runtime) -> list[Document]:
    mounts: list[Document] = [{"name": TMP_VOLUME, "mountPath": TMP_DIR}]
    if runtime.code is not None:
        mounts.append({"name": CODE_VOLUME, "mountPath": CODE_DIR, "readOnly": True})
    if _has_prompt(spec):
        mounts.append({"name": PROMPT_VOLUME, "mountPath": PROMPT_DIR, "readOnly": True})
    return mounts


def _has_prompt(spec: AgentSpec) -> bool:
    return spec.agent.system_prompt is not None or spec.agent.system_prompt_from is not None


def _file(volume: str, config_map: str, key: str, path: str) -> Document:
    """Return a volume with one key of a ConfigMap as a file."""
    return {"name": volume, "configMap": {"name": config_map, "items": [{"key": key, "path": path}]}}
