"""Findings about the servers of an agent's tools, as its pods reached them (`/health`, component `tools`). Pure.

A pod runs the user's code, and a server states its own name: texts of either are bounded, and shown only if plain.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agent_operator.api.reasons import REASONS
from agent_operator.api.tools import Tool
from agent_operator.api.validation import InvalidAgentError, parse
from agent_operator.controller.status.published import OTHER
from agent_operator.controller.status.tool_servers import KINDS
from agent_operator.kube.conditions import condition
from agent_operator.tools.doctor.evidence import Evidence
from agent_operator.tools.doctor.redact import masked
from agent_operator.tools.doctor.report import Finding, State

STEP = COMPONENT = "tools"

_UNRESOLVED = "ToolServerUnresolved"
_OF_THE_NETWORK = frozenset(
    {"unreachable", "connection_refused", "no_route", "disconnected", "dns", "timed_out", "proxy", "tls"}
)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST = 64
_MOST_NAMES = 10

_Servers = Mapping[str, Mapping[str, Any]]


def tool_findings(evidence: Evidence) -> Iterator[Finding]:
    """Yield the problems between the pods and the servers of tools."""
    tools = {tool.name: tool for tool in _with_servers(evidence)}
    if not tools:
        return
    yield from _unresolved(evidence)
    pod, servers = _reported(evidence, tools)
    down = {name: _kind(server) for name, server in servers.items() if server.get("status") == "down"}
    required = {name: kind for name, kind in down.items() if tools[name].on_unavailable == "fail"}
    optional = {name: kind for name, kind in down.items() if name not in required}
    if required:
        message = f"Turns are answered with 503 (onUnavailable: fail), because pod {pod} cannot use {_causes(required)}"
        yield Finding(STEP, "RequiredToolServerDown", message, _remedy(evidence, pod, required))
    if optional:
        message = f"The agent answers without some tools, because pod {pod} cannot use {_causes(optional)}"
        yield Finding(STEP, "ToolServerDown", message, _remedy(evidence, pod, optional), note=True)
    unmatched = [
        f"{name}: {', '.join(globs)}" for name, server in servers.items() if (globs := _unmatched(tools[name], server))
    ]
    if unmatched:
        message = f"Entries of allow match no tool of their server: {'; '.join(unmatched)}"
        remedy = "correct allow in tools; the names are the server's own, and the log of the server may list them"
        yield Finding(STEP, "AllowMatchesNothing", message, remedy, note=True)
    renamed = [name for server in servers.values() for name in _texts(server.get("renamed")) if _NAME.fullmatch(name)]
    if renamed:
        message = f"Servers have tools of the same name, which are offered as {', '.join(renamed[:_MOST_NAMES])}"
        remedy = "use these names in prompts, or select with allow, so that only one server has each name"
        yield Finding(STEP, "ToolsRenamed", message, remedy, note=True)


def tool_summary(evidence: Evidence) -> tuple[State, str]:
    """Return the state of the servers, with what each answered."""
    tools = {tool.name: tool for tool in _with_servers(evidence)}
    if not tools:
        return "ok", "no servers of tools"
    _, servers = _reported(evidence, tools)
    if not servers:
        return "unknown", "no pod reports on the servers of its tools"
    missing = [name for name in tools if name not in servers]
    texts = [
        *(f"{name} {_answer(server)}" for name, server in servers.items()),
        *(f"{each} unknown" for each in missing),
    ]
    states = {str(server.get("status")) for server in servers.values()}
    state: State = "wrong" if "down" in states else "unknown" if missing or states != {"up"} else "ok"
    return state, "; ".join(texts)


def _with_servers(evidence: Evidence) -> list[Tool]:
    try:
        agent = evidence.resolved or parse(evidence.agent or {})
    except InvalidAgentError:
        return []
    return [tool for tool in agent.spec.tools or [] if tool.builtin is None]


def _unresolved(evidence: Evidence) -> Iterator[Finding]:
    status = (evidence.agent or {}).get("status") or {}
    for name, wanted in (("Ready", "False"), ("Degraded", "True")):
        state = condition(status, name)
        if state.get("reason") == _UNRESOLVED and state.get("status") == wanted:
            advice = REASONS[_UNRESOLVED].advice
            yield Finding(STEP, _UNRESOLVED, str(state["message"]), advice, note=name == "Degraded")
            return


def _reported(evidence: Evidence, tools: Mapping[str, Tool]) -> tuple[str, _Servers]:
    """Return the servers as one pod reports them: the first pod that cannot use one, else the first that reports."""
    found: list[tuple[str, _Servers]] = []
    for pod, health in sorted(evidence.health.items()):
        component = _mapping(_mapping((health.components or {}).get("components")).get(COMPONENT))
        reported = _mapping(component.get("servers"))
        if servers := {name: _mapping(reported[name]) for name in tools if name in reported}:
            found.append((pod, servers))
    worse = (each for each in found if any(server.get("status") == "down" for server in each[1].values()))
    return next(worse, found[0] if found else ("", {}))


def _causes(kinds: Mapping[str, str]) -> str:
    return "; ".join(f"{name} ({KINDS[kind]})" for name, kind in kinds.items())


def _remedy(evidence: Evidence, pod: str, kinds: Mapping[str, str]) -> str:
    log = f"the pod's log has more: kubectl logs {pod} -n {evidence.namespace} -c agent"
    if set(kinds.values()) <= _OF_THE_NETWORK:
        return f"check that the server runs, its address, and that network policies let the pods reach it; {log}"
    return f"correct what the message names; {log}"


def _answer(server: Mapping[str, Any]) -> str:
    if server.get("status") == "down":
        return f"cannot be used ({_kind(server)})"
    if server.get("status") != "up":
        return "was not contacted yet"
    stated = str(server.get("server") or "")
    name = masked(stated)[:_LONGEST] if stated.isprintable() else ""
    parts = [name, f"revision {revision}" if _NAME.fullmatch(revision := str(server.get("revision"))) else ""]
    counts = f"{_number(server.get('offered'))} of {_number(server.get('tools'))} tools are offered"
    return f"answers ({', '.join([*filter(None, parts), counts])})"


def _kind(server: Mapping[str, Any]) -> str:
    kind = server.get("kind")
    return kind if isinstance(kind, str) and kind in KINDS else OTHER


def _unmatched(tool: Tool, server: Mapping[str, Any]) -> list[str]:
    reported = set(_texts(server.get("unmatched")))
    return [glob for glob in tool.allow or [] if glob in reported]


def _texts(value: object) -> Iterable[str]:
    return (each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def _number(value: object) -> str:
    return str(value) if isinstance(value, int) else "?"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
