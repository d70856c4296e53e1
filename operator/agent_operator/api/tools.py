"""Tools of the agent: MCP servers, tools that the model API runs itself, and Python files."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.core_v1 import KeyReference
from agent_operator.api.kubernetes.part import SET, keyed
from agent_operator.api.mcp import DEFAULT_PORT, PORT_RULE, Mcp
from agent_operator.api.networking import Port
from agent_operator.api.rules import Rule

# What belongs to Portside in the pods of an agent with tools: containers and volumes with this prefix, and the volume
# and the folders of its own container.
PREFIX = "tool-"
TOOLS_VOLUME = "tools"
TOOLS_FILE = "/etc/portside/tools/tools.json"
SECRETS_DIR = "/var/run/portside/tool-secrets"
_FOLDERS = ("/etc/portside/tools", TOOLS_FILE, SECRETS_DIR)

_Glob = Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=1, max_length=128)]


class ToolCode(Model):
    """A Python file with tools, which the image of Portside serves beside the agent."""

    rules = (PORT_RULE,)

    config_map_key_ref: KeyReference
    """Key of a ConfigMap in the same namespace that contains the file. Changes to the ConfigMap take effect without a
    restart."""
    port: Port = DEFAULT_PORT
    """Port that the file is served on, unique among the tools."""


class Tool(Model):
    """Tools that the agent may call: an MCP server, a tool of the model API, or a Python file."""

    rules = (
        Rule(
            cel="(has(self.mcp) ? 1 : 0) + (has(self.builtin) ? 1 : 0) + (has(self.code) ? 1 : 0) == 1",
            message="set exactly one of mcp (a server), builtin (a tool of the model API) and code (a Python file)",
            holds=lambda tool: [tool.mcp, tool.builtin, tool.code].count(None) == 2,  # noqa: PLR2004  all but one
        ),
        Rule(
            cel="!has(self.builtin) || !(has(self.allow) || has(self.approve) || has(self.timeoutSeconds) "
            "|| has(self.maxResultBytes) || has(self.onUnavailable))",
            message="allow, approve, timeoutSeconds, maxResultBytes and onUnavailable have no effect with builtin, as "
            "the model API runs the tool: remove them",
            holds=lambda tool: (
                tool.builtin is None
                or (tool.allow, tool.approve, tool.timeout_seconds, tool.max_result_bytes, tool.on_unavailable)
                == (None,) * 5
            ),
            field="builtin",
        ),
    )

    name: Annotated[
        str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$", min_length=1, max_length=32)
    ]
    """Name of the entry. It is the label of the server in metrics, and part of the names of tools that are ambiguous
    without it."""
    mcp: Mcp | None = None
    """An MCP server."""
    builtin: Literal["web_search", "web_fetch", "code_execution"] | None = None
    """A tool that the model API runs itself: `web_search`, `web_fetch` or `code_execution`."""
    code: ToolCode | None = None
    """A Python file with functions that are tools."""
    allow: Annotated[list[_Glob], Field(max_length=64, json_schema_extra=SET)] | None = None
    """Names of the server's tools that the agent may call, with `*` and `?` as wildcards. If unset, all of them."""
    approve: Annotated[list[_Glob], Field(max_length=64, json_schema_extra=SET)] | None = None
    """Names of the server's tools whose calls wait until a client approves them, with `*` and `?` as wildcards. If
    unset, none of them."""
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] | None = None
    """Maximum duration of one call, in seconds. Defaults to 60."""
    max_result_bytes: Annotated[int, Field(ge=1024, le=16_777_216)] | None = None
    """Maximum size of one result as sent to the model. Longer text is cut with a note, and other content is left out
    with a note. Defaults to 262144."""
    on_unavailable: Literal["continue", "fail"] | None = None
    """What happens to turns while the server is unavailable: `continue` (the default) answers without its tools;
    `fail` answers 503."""

    @property
    def port(self) -> int | None:
        """The port in the pod that the entry's own container listens on; None without a container."""
        if self.code is not None:
            return self.code.port
        return self.mcp.sidecar.port if self.mcp is not None and self.mcp.sidecar is not None else None


Tools = Annotated[list[Tool], Field(max_length=32, json_schema_extra=keyed("name"))]


def _names(entries: Any) -> set[str]:
    return {each.name for each in entries or ()}


def _builtins(tools: list[Tool] | None) -> list[str]:
    return [tool.builtin for tool in tools or [] if tool.builtin is not None]


def _ports(tools: list[Tool] | None) -> list[int]:
    return [tool.port for tool in tools or [] if tool.port is not None]


def _mounted(tools: list[Tool] | None) -> set[str]:
    """Return the names of the volumes that the sidecars mount."""
    sidecars = [tool.mcp.sidecar for tool in tools or [] if tool.mcp is not None and tool.mcp.sidecar is not None]
    return {name for sidecar in sidecars for name in _names(sidecar.volume_mounts)}


def _is_ours(name: str) -> bool:
    return name == TOOLS_VOLUME or name.startswith(PREFIX)


def _port(tool: str) -> str:
    """Return a CEL expression for the port of an entry's container, or a number that differs for each entry."""
    return (
        f"(has({tool}.code) ? {tool}.code.port "
        f": has({tool}.mcp) && has({tool}.mcp.sidecar) ? {tool}.mcp.sidecar.port : 0)"
    )


SPEC_RULES = (
    Rule(
        cel="!has(self.tools) || self.tools.all(each, !has(each.builtin) "
        "|| self.tools.filter(other, has(other.builtin) && other.builtin == each.builtin).size() == 1)",
        message="two entries of tools have the same builtin: remove one of them",
        holds=lambda spec: len(_builtins(spec.tools)) == len(set(_builtins(spec.tools))),
        field="tools",
    ),
    Rule(
        cel="!has(self.tools) || self.tools.all(each, "
        f"{_port('each')} == 0 || self.tools.filter(other, {_port('other')} == {_port('each')}).size() == 1)",
        message="two entries of tools have the same port: "
        "choose another port for one of them (mcp.sidecar.port, code.port)",
        holds=lambda spec: len(_ports(spec.tools)) == len(set(_ports(spec.tools))),
        field="tools",
    ),
    Rule(
        cel=f"!has(self.tools) || !has(self.runtime) || self.tools.all(each, {_port('each')} != self.runtime.port)",
        message="the port of a tool is that of the runtime: "
        "choose another port for one of them (mcp.sidecar.port, code.port, runtime.port)",
        holds=lambda spec: spec.runtime is None or spec.runtime.port not in _ports(spec.tools),
        field="tools",
    ),
    Rule(
        cel=f"!has(self.tools) || !("
        f"(has(self.sidecars) && self.sidecars.exists(each, each.name.startsWith('{PREFIX}'))) "
        f"|| (has(self.initContainers) && self.initContainers.exists(each, each.name.startsWith('{PREFIX}'))))",
        message="with tools, containers whose names begin with tool- are Portside's own: "
        "rename the container in sidecars or initContainers",
        holds=lambda spec: (
            spec.tools is None
            or not any(name.startswith(PREFIX) for name in _names(spec.sidecars) | _names(spec.init_containers))
        ),
        field="tools",
    ),
    Rule(
        cel="!has(self.tools) || !has(self.extraVolumes) || self.extraVolumes.all(each, "
        f"each.name != '{TOOLS_VOLUME}' && !each.name.startsWith('{PREFIX}'))",
        message="with tools, the volume tools and those whose names begin with tool- are Portside's own: "
        "choose another name",
        holds=lambda spec: spec.tools is None or not any(map(_is_ours, _names(spec.extra_volumes))),
        field="extraVolumes",
    ),
    Rule(
        cel="!has(self.tools) || !has(self.extraVolumeMounts) "
        f"|| self.extraVolumeMounts.all(each, !(each.mountPath in {list(_FOLDERS)}))",
        message="with tools, the folders /etc/portside/tools and /var/run/portside/tool-secrets are mounted by "
        "Portside: choose another mountPath",
        holds=lambda spec: (
            spec.tools is None or not {each.mount_path for each in spec.extra_volume_mounts or []} & set(_FOLDERS)
        ),
        field="extraVolumeMounts",
    ),
    Rule(
        cel="!has(self.tools) || self.tools.all(tool, !has(tool.mcp) || !has(tool.mcp.sidecar) "
        "|| !has(tool.mcp.sidecar.volumeMounts) || tool.mcp.sidecar.volumeMounts.all(each, "
        "has(self.extraVolumes) && self.extraVolumes.exists(other, other.name == each.name)))",
        message="a mount in the sidecar of a tool refers to an unknown volume: "
        "add the volume to extraVolumes, or correct the name",
        holds=lambda spec: _mounted(spec.tools) <= _names(spec.extra_volumes),
        field="tools",
    ),
)
"""Rules of a whole spec that has tools."""
