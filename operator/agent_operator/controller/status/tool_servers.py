"""Whether an agent's pods can use the servers of its tools, from what they report. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent_operator.api.tools import Tool
from agent_operator.controller.status.published import OTHER, hashes_in, reading_of
from agent_operator.controller.status.settling import SILENT, Reading, is_down
from agent_operator.kube.conditions import Judgement, condition

TOOLS_READY = "ToolsReady"
REQUIRED_UNAVAILABLE = "RequiredToolServersUnavailable"
UNAVAILABLE = "ToolServersUnavailable"

# Of an entry of `tools`.
_NAME = re.compile(r"[-a-z0-9]{1,32}")

KINDS = {
    # Of a connection.
    "unreachable": "there is no connection to it",
    "connection_refused": "its address refuses connections",
    "no_route": "there is no route to its address",
    "disconnected": "it closes connections without an answer",
    "dns": "its name cannot be resolved",
    "tls": "TLS fails: check the scheme and the port of mcp.url",
    "certificate": "its certificate is not trusted",
    "proxy": "the proxy cannot be reached, or refuses",
    "timed_out": "it does not answer in time",
    "refused_address": "its name resolves to an address that is not allowed: see mcp.allowLinkLocal",
    # Of the credentials.
    "no_secret": "the Secret of mcp.headersFrom or mcp.auth is missing, or has no such key",
    "no_token": "the token endpoint gives no token: check tokenUrl and the Secrets of mcp.auth",
    "credentials_refused": "it does not accept the credentials: check the Secrets of mcp.headersFrom and mcp.auth",
    # Of its answers.
    "no_endpoint": "it lacks the path that is called: correct mcp.url, or the path of the sidecar",
    "redirect": "it redirects, which is not followed: correct mcp.url",
    "refused": "it refuses requests",
    "failed": "it fails with an internal error",
    "too_large": "its list of tools is larger than 2 MiB",
    "protocol": "the server at its address does not speak MCP over HTTP",
    OTHER: "/health and the pods' log show why",
}
"""What each kind means that pods publish (service: tooling/kinds.py; a test compares the two)."""


def servers_in(metrics: str) -> Reading:
    """Return what a pod's metrics, in Prometheus' text format, report of its servers of tools."""
    found = reading_of(metrics, "agent_tool_server", "server", KINDS)
    return {name: kind for name, kind in found.items() if _NAME.fullmatch(name)}


def lists_in(metrics: str) -> Reading:
    """Return the hash of the list of tools of each server, from a pod's metrics in Prometheus' text format."""
    found = hashes_in(metrics, "agent_tool_list_hash", "server")
    return {name: value for name, value in found.items() if _NAME.fullmatch(name)}


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
    causes = "; ".join(f"{tool.name} cannot be used: {KINDS[reading[tool.name]]}" for tool in down)
    required = list(_names(tool for tool in down if tool.on_unavailable == "fail"))
    if required:
        effect = f"Until this is resolved, turns are answered with 503 (onUnavailable: fail of {', '.join(required)})"
        return Judgement("False", REQUIRED_UNAVAILABLE, f"The pods report of tools that {causes}. {effect}")
    effect = "Until this is resolved, the agent answers without their tools"
    return Judgement("False", UNAVAILABLE, f"The pods report of tools that {causes}. {effect}")


def _names(tools: Iterable[Tool]) -> Iterable[str]:
    return (tool.name for tool in tools)
