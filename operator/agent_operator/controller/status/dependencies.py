"""Whether an agent's pods can use the model API, the runtime and Redis, from what they report. Pure.

No text of a pod is shown, because pods run the user's code. A pod can only choose among the texts of this file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from agent_operator.controller.status.budget import Used
from agent_operator.controller.status.pod_problems import Problem
from agent_operator.controller.status.published import OTHER, reading_of
from agent_operator.controller.status.settling import SILENT, UP, Reading, is_down
from agent_operator.kube.conditions import Judgement, condition

DEPENDENCIES_REACHABLE = "DependenciesReachable"

# Longer than a failover of Redis, a restart of a gateway or most hiccups of a model API, all of which resolve by
# themselves. After this time a user should act.
DEGRADED_AFTER = timedelta(minutes=5)


@dataclass(frozen=True)
class Report:
    """What pods report: of the budget and of waiting approvals (None before the first poll), and of dependencies and
    tool servers (None until settled). `tool_lists` has the hash of each server's list of tools, from pods with the
    current settings."""

    used: Used | None = None
    dependencies: Reading | None = None
    tool_servers: Reading | None = None
    approvals: int | None = None
    tool_lists: Reading = field(default_factory=dict)


# The agent's own provider beside fallbacks: while only it is down, the agent works.
PRIMARY = "model_primary"
COMPONENTS = {
    "model_api": "the model API",
    PRIMARY: "the agent's own provider",
    "runtime": "the runtime",
    "redis": "Redis",
}
SILENT_READING: Reading = {"model_api": SILENT, "redis": SILENT}
_REASONS = {"model_api": "ModelAPIUnavailable", "runtime": "RuntimeUnavailable", "redis": "RedisUnavailable"}
SEVERAL = "DependenciesUnavailable"

# The dependency answers but limits the rate: that is not an outage, and comes and goes.
_NOT_DOWN = frozenset({"rate_limited"})
KINDS = {
    # Of a connection.
    "unreachable": "there is no connection to it",
    "connection": "there is no connection to it",
    "connection_refused": "its address refuses connections",
    "connect_timeout": "its address does not accept connections in time",
    "no_route": "there is no route to its address",
    "disconnected": "it closes connections without an answer",
    "dns": "its name cannot be resolved",
    "tls": "TLS fails: check the scheme and the port of its address",
    "certificate": "its certificate is not trusted",
    "certificate_file": "the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be loaded",
    "proxy": "the proxy cannot be reached, or refuses",
    "timeout": "it does not answer in time",
    "timed_out": "it does not answer in time",
    # Of the model API, or of a gateway in its place.
    "credentials_refused": "it does not accept the key",
    "refused": "it refuses requests",
    "not_offered": "it does not have the model",
    "failed": "it fails with an internal error",
    "overloaded": "it is overloaded",
    "redirect": "the server at its address redirects to another address",
    "intercepted": "an intermediary answers in its place",
    "wrong_content_type": "the server at its address is not a model API",
    "protocol": "the server at its address does not speak valid HTTP",
    "unreadable": "its responses cannot be read",
    # Of Redis.
    "full": "its memory or its disk is full",
    "read_only": "it does not accept writes",
    "not_permitted": "its user lacks a permission that the agent needs",
    "wrong_password": "it does not accept the user name or the password",
    "cluster": "it is part of a cluster that keeps the agent's keys elsewhere",
    "loading": "it is loading its data",
    # Of the runtime.
    "no_endpoint": "it lacks the path that is called: correct runtime.protocol or runtime.path",
    "no_health_path": "it lacks the path of its health check: correct runtime.healthPath or runtime.protocol",
    OTHER: "the pods' log and /health show why",
}
# Where the same kind means something else for the runtime.
_KINDS_OF_RUNTIME = {
    "protocol": "it does not speak HTTP: correct runtime.port or runtime.protocol",
    "unreadable": "its answers are of another protocol: correct runtime.protocol",
    "timed_out": "it does not answer in time, and may be busy",
    "overloaded": "it is busy",
    "redirect": "it redirects: correct runtime.path and runtime.healthPath",
    "refused": "it refuses requests",
}


def reading_in(metrics: str) -> Reading:
    """Return what a pod's metrics, in Prometheus' text format, report; empty for images that do not report it."""
    found = reading_of(metrics, "agent_dependency", "component", KINDS.keys() | _NOT_DOWN)
    return {name: UP if kind in _NOT_DOWN else kind for name, kind in found.items() if name in COMPONENTS}


def judge_dependencies(settled: Reading | None, old: Mapping[str, Any]) -> Judgement | None:
    """Return whether the pods reach all their dependencies; None if no pod reports it.

    While nothing is settled, as after a start of the operator, the condition of the previous status (`old`) is kept.
    """
    if settled is None:
        before = condition(old, DEPENDENCIES_REACHABLE)
        return Judgement(before["status"], before["reason"], before["message"]) if before else None
    down = {component: kind for component, kind in settled.items() if is_down(kind) and component != PRIMARY}
    if down:
        reason = SEVERAL if len(down) > 1 else _REASONS[next(iter(down))]
        causes = "; ".join(
            f"{COMPONENTS[name]} cannot be used: {_described(name, kind)}" for name, kind in down.items()
        )
        return Judgement(
            "False", reason, f"The pods report that {causes}. Until this is resolved, requests and tasks fail"
        )
    if SILENT in settled.values():
        message = (
            "No pod reports on its dependencies: the operator reads this from port 9090 of the pods, so "
            "networkPolicy.scrapeFrom must allow the operator"
        )
        return Judgement("Unknown", "NotReported", message)
    if is_down(settled.get(PRIMARY, UP)):
        cause = f"{COMPONENTS[PRIMARY]} cannot be used: {_described(PRIMARY, settled[PRIMARY])}"
        return Judgement("True", "OnFallback", f"The pods report that {cause}. A fallback answers")
    return Judgement("True", "Reachable", "The pods can use their dependencies") if settled else None


def _described(component: str, kind: str) -> str:
    return (_KINDS_OF_RUNTIME if component == "runtime" else {}).get(kind, KINDS[kind])


def lasting_outage(name: str, judged: Judgement | None, old: Mapping[str, Any], now: datetime) -> Problem | None:
    """Return the problem for an outage that has lasted for `DEGRADED_AFTER`; None before that, or without an outage.

    `name` is the condition that `judged` is for.
    """
    began = _began(old, name)
    if judged is None or judged.status != "False" or began is None or now < began + DEGRADED_AFTER:
        return None
    minutes = DEGRADED_AFTER // timedelta(minutes=1)
    return Problem(judged.reason, f"For {minutes} minutes or more: {judged.message}")


def seconds_until_lasting(status: Mapping[str, Any], name: str, now: datetime) -> float | None:
    """Return the seconds until the outage that the condition `name` of a status reports has lasted.

    Returns None if it already has, or without an outage.
    """
    began = _began(status, name)
    left = (began + DEGRADED_AFTER - now).total_seconds() if began is not None else 0.0
    # One second more, because times in a status are whole seconds.
    return left + 1 if left > 0 else None


def _began(status: Mapping[str, Any], name: str) -> datetime | None:
    """Return when the outage in a status began. The time survives restarts of the operator."""
    found = condition(status, name)
    return datetime.fromisoformat(found["lastTransitionTime"]) if found.get("status") == "False" else None
