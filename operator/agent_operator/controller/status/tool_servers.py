"""Whether an agent's pods can use the servers of its tools, from what they report. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent_operator.api.tools import Tool
from agent_operator.controller.status.dependencies import KINDS, OTHER
from agent_operator.controller.status.settling import SILENT, UP, Reading, is_down
from agent_operator.kube.conditions import Judgement, condition

TOOLS_READY = "ToolsReady"
REQUIRED_UNAVAILABLE = "RequiredToolServersUnavailable"
UNAVAILABLE = "ToolServersUnavailable"

# Where the same kind means something else for a server of tools.
_KINDS = {
    "credentials_refused": "it does not accept the credentials: check the Secrets of mcp.headersFrom and mcp.auth",
    "no_endpoint": "it lacks the path that is called: correct mcp.url, or the path of the sidecar",
    "redirect": "it redirects, which is not followed: correct mcp.url",
    "refused_address": "its name resolves to an address that is not allowed: see mcp.allowLinkLocal",
    "protocol": "the server at its address does not speak MCP over HTTP",
    "unreadable": "the server at its address does not speak MCP over HTTP",
    "no_secret": "the Secret of mcp.headersFrom or mcp.auth has no such key",
    # `/health` has nothing about these servers.
    OTHER: "the pods' log shows why",
}

# Prometheus sorts labels by name.
_SERIES = re.compile(
    r'^agent_tool_server_(up|failing)\{(?:kind="([a-z_]{1,64})",)?server="([-a-z0-9]{1,32})"\} ([0-9.]{1,8})$',
    re.MULTILINE,
)


def servers_in(metrics: str) -> Reading:
    """Return what a pod's metrics, in Prometheus' text format, report of its servers of tools."""
    up: dict[str, bool] = {}
    kinds: dict[str, str] = {}
    for series, kind, server, value in _SERIES.findall(metrics):
        if series == "up":
            up[server] = value in {"1", "1.0"}
        elif value in {"1", "1.0"}:
            kinds[server] = kind if kind in KINDS or kind in _KINDS else OTHER
    return {server: UP if is_up else kinds.get(server, OTHER) for server, is_up in up.items()}


def judge_tools(
    tools: Sequence[Tool], settled: Reading | None, dependencies: Reading | None, old: Mapping[str, Any]
) -> Judgement | None:
    """Return whether the pods can use all servers of the agent's tools; None for an agent without such servers.

    Args:
        tools: the tools of the spec. Servers that are not among them are ignored.
        settled: what the pods report of servers; None while it is unknown.
        dependencies: what the pods report of their dependencies, which shows whether they report at all.
        old: the previous status, whose condition is kept while nothing is settled.
    """
    servers = [tool for tool in tools if tool.builtin is None]
    if not servers:
        return None
    if dependencies is not None and SILENT in dependencies.values():
        message = (
            "No pod reports on the servers of its tools: the operator reads this from port 9090 of the pods, so "
            "networkPolicy.scrapeFrom must allow the operator"
        )
        return Judgement("Unknown", "NotReported", message)
    before = condition(old, TOOLS_READY)
    if settled is None and before:
        return Judgement(before["status"], before["reason"], before["message"])
    reading = settled or {}
    down = [tool for tool in servers if is_down(reading.get(tool.name))]
    if down:
        return _unavailable(down, reading)
    missing = [tool.name for tool in servers if tool.name not in reading]
    if missing:
        return Judgement("Unknown", "NotReported", f"The pods do not report yet on the servers {', '.join(missing)}")
    return Judgement("True", "ToolsListed", "The pods can use the servers of all tools")


def _unavailable(down: Sequence[Tool], reading: Reading) -> Judgement:
    causes = "; ".join(f"{tool.name} cannot be used: {_described(reading[tool.name])}" for tool in down)
    required = list(_names(tool for tool in down if tool.on_unavailable == "fail"))
    if required:
        effect = f"Until this is resolved, turns are answered with 503 (onUnavailable: fail of {', '.join(required)})"
        return Judgement("False", REQUIRED_UNAVAILABLE, f"The pods report of tools that {causes}. {effect}")
    effect = "Until this is resolved, the agent answers without their tools"
    return Judgement("False", UNAVAILABLE, f"The pods report of tools that {causes}. {effect}")


def _names(tools: Iterable[Tool]) -> Iterable[str]:
    return (tool.name for tool in tools)


def _described(kind: str) -> str:
    return _KINDS.get(kind) or KINDS[kind]
