"""Findings about runtimes that are started and do not respond. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime

from agent_operator.api.runtime import CONTAINER, Runtime
from agent_operator.controller.status.pod_problems import described
from agent_operator.controller.status.runtime_problems import (
    NOT_RESPONDING,
    Cause,
    cause_of,
    cause_of_start,
    is_of_runtime,
    last_failure,
    runtime_that_starts,
    status_of_runtime,
)
from agent_operator.manifests.document import Document
from agent_operator.tools.doctor.evidence import Evidence, time_of
from agent_operator.tools.doctor.redact import last_line
from agent_operator.tools.doctor.report import Finding

READINESS = "Readiness probe"
# In sentences of the agent's /health (service: runtime/health.py).
_BUSY = "busy"
_OUTDATED = "outdated"


def runtime_findings(evidence: Evidence, pod: Document, events: list[Document]) -> list[Finding]:
    """Return why the runtime of a pod does not respond, by the kubelet's probes; empty if it responds."""
    runtime = evidence.runtime
    if runtime is None:
        return []
    name = pod["metadata"]["name"]
    cause = cause_of_start(pod, runtime, events, _now(events))
    if cause is None:
        cause = _unready(pod, runtime, events)
    if cause is None:
        return []
    message = f"The {described(CONTAINER, name)} does not respond: {cause.text}{_last_words(pod)}"
    log = f"kubectl logs {name} -n {evidence.namespace} -c {CONTAINER}"
    return [Finding("pods", NOT_RESPONDING, message, f"{cause.advice}; its log: {log}")]


def starting(pod: Document) -> bool:
    """Return whether the pod's runtime runs and has not responded yet."""
    return runtime_that_starts([pod]) is not None and "running" in status_of_runtime(pod).get("state", {})


def notes(evidence: Evidence) -> Iterator[Finding]:
    """Yield a note if a runtime reports background work, during which turns may wait, or a file it cannot load."""
    if (pod := _first_that_reports(evidence, _OUTDATED)) is not None:
        message = f"Pod {pod} reports that it cannot load the changed file of runtime.code: an earlier version answers"
        log = f"kubectl logs {pod} -n {evidence.namespace} -c {CONTAINER}"
        remedy = f"correct the file in its ConfigMap; its log has the file and line of the error: {log}"
        yield Finding("pods", "CodeOutdated", message, remedy, note=True)
    if (pod := _first_that_reports(evidence, _BUSY)) is not None:
        message = f"Pod {pod} reports that its runtime is busy with background work (HealthyBusy)"
        yield Finding("pods", "RuntimeBusy", message, "wait, or add pods: replicas, autoscaling", note=True)


def _first_that_reports(evidence: Evidence, word: str) -> str | None:
    """Return the first pod whose runtime is up, and is described with this word."""
    for pod, health in sorted(evidence.health.items()):
        state = ((health.components or {}).get("components") or {}).get("runtime") or {}
        if state.get("status") == "up" and word in str(state.get("detail", "")):
            return pod
    return None


def _now(events: list[Document]) -> datetime:
    """Return the time of the newest Event about the runtime: the evidence was gathered soon after it."""
    times = [time_of(event) for event in events if is_of_runtime(event)]
    newest = max(times, default="")
    return datetime.fromisoformat(newest) if newest else datetime.min.replace(tzinfo=UTC)


def _unready(pod: Document, runtime: Runtime, events: list[Document]) -> Cause | None:
    """Return the cause if the runtime has started, and its readiness probe fails."""
    container = status_of_runtime(pod)
    running = (container.get("state") or {}).get("running")
    if not running or not container.get("started") or container.get("ready"):
        return None
    failure = last_failure([each for each in events if time_of(each) >= str(running.get("startedAt"))], READINESS)
    return None if failure is None else cause_of(failure, runtime)


def _last_words(pod: Document) -> str:
    """Return the last line of the runtime that the kubelet restarted, for the message."""
    ended = (status_of_runtime(pod).get("lastState") or {}).get("terminated") or {}
    line = last_line(str(ended.get("message") or ""))
    return f'. Its last line: "{line}"' if line else ""
