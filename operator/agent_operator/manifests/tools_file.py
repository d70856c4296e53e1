"""The file with the agent's tools, which the service reads (the service: TOOLS_FILE), and its ConfigMap."""

import json
from typing import Any

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import AgentSpec
from agent_operator.api.tools import Tool
from agent_operator.manifests.document import Document, metadata
from agent_operator.manifests.names import tools_name

TOOLS_KEY = "tools.json"
# A host that no DNS has (RFC 6761, section 6.4). A server that is not resolved is thus one that cannot be reached, and
# `onUnavailable` applies to it.
_UNRESOLVED = "unresolved.invalid"


def tools_file(spec: AgentSpec) -> dict[str, str]:
    """Return the file by its name; nothing without tools.

    It is as the spec has it, except that a `serverRef` is an address and a sidecar only what a client needs of it. Keys
    are sorted, as a template of the chart writes them.
    """
    if not spec.tools:
        return {}
    document = {"tools": [_entry(tool) for tool in spec.tools]}
    return {TOOLS_KEY: json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)}


def tools_config_map(agent: AgentDeployment) -> Document | None:
    """Return the ConfigMap with the file, or None without tools.

    It is not a part of the agent's own ConfigMap, all keys of which are variables of the container: Linux starts no
    program with a variable of 128 KiB.
    """
    data = tools_file(agent.spec)
    if not data:
        return None
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(agent, own_name=tools_name(agent.name)),
        "data": data,
    }


def _entry(tool: Tool) -> dict[str, Any]:
    entry = tool.model_dump(by_alias=True, exclude_none=True)
    mcp = entry.get("mcp", {})
    if mcp.pop("serverRef", None) is not None:
        mcp["url"] = f"http://{tool.name}.{_UNRESOLVED}/mcp"
    if "sidecar" in mcp:
        mcp["sidecar"] = {key: mcp["sidecar"][key] for key in ("port", "path")}
    return entry
