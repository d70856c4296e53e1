"""The tools of an agent: the servers beside it, the Secrets for all servers, and the settings of the service.

The servers are native sidecars, as a runtime is: they listen before the agent's container starts.
"""

from typing import Any

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.approvals import Approvals
from agent_operator.api.core_v1 import HARDENED, KeyReference
from agent_operator.api.mcp import SERVER_RESOURCES, Mcp, SecretKey, ToolSidecar
from agent_operator.api.runtime import TMP_DIR
from agent_operator.api.spec import AgentSpec
from agent_operator.api.tools import PREFIX, SECRETS_DIR, TOOLS_FILE, TOOLS_VOLUME, Tool
from agent_operator.manifests.container import amounts, as_written, image_reference, tcp_probe, variables
from agent_operator.manifests.document import Document, without_empty
from agent_operator.manifests.names import tools_name
from agent_operator.manifests.tools_file import TOOLS_KEY

SECRETS_VOLUME = f"{PREFIX}secrets"
_CODE_DIR = "/etc/portside/tools"
# For a file in the image of Portside, which needs no longer.
_CODE_STARTUP_SECONDS = 120


def tool_settings(spec: AgentSpec) -> dict[str, str | None]:
    """Return the settings of the service for tools; nothing without tools."""
    if not spec.tools:
        return {}
    return {
        "TOOLS_FILE": TOOLS_FILE,
        "MAX_STEPS": str(spec.agent.max_steps) if spec.agent.max_steps is not None else None,
        "MAX_TOOL_CALLS": str(spec.agent.max_tool_calls) if spec.agent.max_tool_calls is not None else None,
        **_approval_settings(spec.approvals),
    }


def _approval_settings(approvals: Approvals | None) -> dict[str, str | None]:
    if approvals is None:
        return {}
    return {
        "APPROVERS": ",".join(approvals.approvers or []) or None,
        "APPROVAL_TTL_SECONDS": str(approvals.ttl_seconds) if approvals.ttl_seconds is not None else None,
    }


def tool_mounts(spec: AgentSpec) -> list[Document]:
    """Return the mounts of the agent's own container; none without tools.

    The file is mounted by itself, so that it does not change in a running pod: pods of an earlier revision have no
    Secret and no sidecar for a new entry.
    """
    if not spec.tools:
        return []
    mounts: list[Document] = [
        {"name": TOOLS_VOLUME, "mountPath": TOOLS_FILE, "subPath": TOOLS_KEY, "readOnly": True},
    ]
    if _secret_keys(spec):
        mounts.append({"name": SECRETS_VOLUME, "mountPath": SECRETS_DIR, "readOnly": True})
    return mounts


def tool_volumes(agent: AgentDeployment) -> list[Document]:
    """Return the volumes of the agent's own container and of the servers beside it; none without tools."""
    if not agent.spec.tools:
        return []
    volumes: list[Document] = [{"name": TOOLS_VOLUME, "configMap": {"name": tools_name(agent.name)}}]
    sources = [
        {"secret": {"name": name, "items": [{"key": key, "path": f"{name}/{key}"}]}}
        for name, key in _secret_keys(agent.spec)
    ]
    if sources:
        volumes.append({"name": SECRETS_VOLUME, "projected": {"sources": sources}})
    for tool in agent.spec.tools:
        if tool.port is not None:
            volumes.append({"name": _tmp_volume(tool), "emptyDir": {}})
        if tool.code is not None:
            volumes.append(_code_volume(tool, tool.code.config_map_key_ref))
    return volumes


def tool_containers(spec: AgentSpec) -> list[Document]:
    """Return the containers of the servers beside the agent."""
    containers = []
    for tool in spec.tools or []:
        if tool.code is not None:
            containers.append(_of_code(spec, tool, tool.code.config_map_key_ref, tool.code.port))
        elif tool.mcp is not None and tool.mcp.sidecar is not None:
            containers.append(_of_sidecar(tool, tool.mcp.sidecar))
    return containers


def has_image_of_its_own(spec: AgentSpec) -> bool:
    """Return whether a server beside the agent has an image of the user's, and so a user of its own."""
    return any(tool.mcp is not None and tool.mcp.sidecar is not None for tool in spec.tools or [])


def _of_sidecar(tool: Tool, sidecar: ToolSidecar) -> Document:
    program = {
        "image": sidecar.image,
        "imagePullPolicy": sidecar.image_pull_policy,
        "command": sidecar.command,
        "args": sidecar.args,
        "workingDir": sidecar.working_dir,
        "envFrom": as_written(sidecar.env_from),
        "env": variables({"PORT": str(sidecar.port)}, sidecar.env),
        "volumeMounts": [_tmp_mount(tool), *as_written(sidecar.volume_mounts)],
        "resources": amounts(sidecar.resources),
        "securityContext": dict(sidecar.security_context),
    }
    return _server(tool, program, sidecar.port, sidecar.startup_seconds)


def _of_code(spec: AgentSpec, tool: Tool, code: KeyReference, port: int) -> Document:
    program = {
        "image": image_reference(spec.image),
        "imagePullPolicy": spec.image.pull_policy,
        "args": ["tools", "--host", "::", "--loopback-only", f"{_CODE_DIR}/{code.key}"],
        "env": variables({"PORT": str(port)}),
        "volumeMounts": [
            _tmp_mount(tool),
            {"name": _volume(tool, "code"), "mountPath": _CODE_DIR, "readOnly": True},
        ],
        "resources": amounts(SERVER_RESOURCES),
        "securityContext": dict(HARDENED),
    }
    return _server(tool, program, port, _CODE_STARTUP_SECONDS)


def _server(tool: Tool, program: dict[str, Any], port: int, startup_seconds: int) -> Document:
    """Return the container of a server.

    An MCP endpoint has no path that answers every GET, so the probes connect only. There is no readiness probe: while
    the server is down, `onUnavailable` decides what happens to turns, and the agent answers the rest.
    """
    return without_empty(
        {
            "name": f"{PREFIX}{tool.name}",
            **program,
            "restartPolicy": "Always",
            "startupProbe": tcp_probe(port, periodSeconds=1, failureThreshold=startup_seconds, timeoutSeconds=1),
            "livenessProbe": tcp_probe(port, periodSeconds=10, failureThreshold=6, timeoutSeconds=5),
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }
    )


def _volume(tool: Tool, purpose: str) -> str:
    return f"{PREFIX}{tool.name}-{purpose}"


def _tmp_volume(tool: Tool) -> str:
    return _volume(tool, "tmp")


def _tmp_mount(tool: Tool) -> Document:
    return {"name": _tmp_volume(tool), "mountPath": TMP_DIR}


def _code_volume(tool: Tool, code: KeyReference) -> Document:
    items = [{"key": code.key, "path": code.key}]
    return {"name": _volume(tool, "code"), "configMap": {"name": code.name, "items": items}}


def _secret_keys(spec: AgentSpec) -> list[tuple[str, str]]:
    """Return the names and keys of the Secrets that the entries refer to, each once and in their order."""
    keys = [key for tool in spec.tools or [] if tool.mcp is not None for key in _keys_of(tool.mcp)]
    return list(dict.fromkeys((key.name, key.key) for key in keys))


def _keys_of(mcp: Mcp) -> list[SecretKey]:
    keys = [header.secret_key_ref for header in mcp.headers_from or []]
    if mcp.auth is not None:
        grant = mcp.auth.client_credentials
        keys += [key for key in (grant.client_id_secret_key_ref, grant.client_secret_key_ref) if key is not None]
    return keys
