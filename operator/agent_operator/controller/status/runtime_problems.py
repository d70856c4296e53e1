"""Why a runtime does not start to respond. Only the kubelet, which probes it, reports the cause, in Events. Pure."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from agent_operator.api.runtime import CONTAINER, Runtime
from agent_operator.controller.status.pod_problems import (
    CONFIG_REASONS,
    IMAGE_REASONS,
    Problem,
    described,
    is_meant_to_run,
)
from agent_operator.manifests.document import Document
from agent_operator.manifests.runtime import HEALTH_PATHS

NOT_RESPONDING = "RuntimeNotResponding"

# A program may take this long to import its libraries and to listen. What resolves by itself is reported after it.
PATIENCE = timedelta(seconds=15)

# Codes of a container that the kubelet stopped, with or without a handler of SIGTERM.
_STOPPED = {0, 137, 143}
_STATUS = re.compile(r"probe failed with statuscode: (?P<code>\d+)")
_FIELD_PATH = f"spec.initContainers{{{CONTAINER}}}"
_UNAVAILABLE = 500
STARTUP = "Startup probe"
_BUSY = (
    "have it respond there with 2xx at any time, also while it is busy with a turn or a task, or set "
    "runtime.healthPath to a path that does"
)


class Cause(NamedTuple):
    """Why a runtime does not respond: the cause, what to do, and whether it may resolve by itself."""

    text: str
    advice: str
    passes: bool = False


def cause_of(failure: str, runtime: Runtime) -> Cause:
    """Return the cause that the message of a failed probe reports (kubelet, pkg/probe/http)."""
    port, path = runtime.port, runtime.health_path or HEALTH_PATHS[runtime.protocol]
    status = _STATUS.search(failure)
    if status is not None:
        return _of_status(int(status["code"]), path)
    if "connection refused" in failure:
        return Cause(
            f"nothing listens on port {port} at the pod's address",
            "set runtime.port to the port of the program, or have it listen on the port in PORT; and have it listen on "
            "0.0.0.0 instead of 127.0.0.1, because the kubelet probes the pod's address",
            passes=True,
        )
    if "malformed HTTP" in failure or "EOF" in failure or "connection reset" in failure:
        return Cause(
            f"the program on port {port} does not speak HTTP",
            "set runtime.port to the port on which it serves HTTP without TLS",
        )
    advice = "check its log, and raise runtime.startupSeconds if it needs longer to start"
    if not failure.startswith(STARTUP):
        advice = _BUSY
    return Cause(f"there is no response at {path} on port {port} in time", advice, passes=True)


def _of_status(code: int, path: str) -> Cause:
    text = f"it responds with {code} at {path}"
    if code >= _UNAVAILABLE:
        return Cause(text, _BUSY, passes=True)
    return Cause(
        text,
        "set runtime.healthPath to a path that responds with 2xx and needs no login, or correct runtime.protocol, "
        "which determines the default path",
    )


def runtime_that_starts(pods: Iterable[Document]) -> Document | None:
    """Return a pod whose runtime was started and does not respond yet, or None."""
    found = (pod for pod in pods if is_meant_to_run(pod) and _is_starting(status_of_runtime(pod)))
    return min(found, key=lambda pod: str(pod["metadata"]["name"]), default=None)


def runtime_problem(pod: Document, runtime: Runtime, events: Iterable[Document], now: datetime) -> Problem | None:
    """Return why the runtime of the pod does not start to respond, by the pod's Events; None if it may just start."""
    cause = cause_of_start(pod, runtime, events, now)
    if cause is None:
        return None
    where = described(CONTAINER, pod["metadata"]["name"])
    return Problem(NOT_RESPONDING, f"The {where} does not respond: {cause.text}; {cause.advice}", CONTAINER)


def cause_of_start(pod: Document, runtime: Runtime, events: Iterable[Document], now: datetime) -> Cause | None:
    """Return the cause of such a problem and what to do, or None."""
    container = status_of_runtime(pod)
    start = _last_start(container)
    if not start or _is_up(container):
        return None
    if _ended_by_itself(container):
        return None  # that it does not respond is a consequence
    events = [event for event in events if is_of_runtime(event)]
    was_stopped = _is_stopped(events) or _was_stopped(container, runtime.startup_seconds)
    failure = last_failure(events, STARTUP)
    if failure is None or (_ended(container) and not was_stopped):
        return None  # in the second case it ended for another reason, before it could respond
    cause = cause_of(failure, runtime)
    # The kubelet drops most of many Events, so one of an earlier start counts if its end was due to the probe.
    if cause.passes and not was_stopped and now < datetime.fromisoformat(start) + PATIENCE:
        return None
    return cause


def without_consequences(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems without the restarts of a runtime that does not respond."""
    known = list(problems)
    if all(problem.reason != NOT_RESPONDING for problem in known):
        return known
    return [each for each in known if (each.reason, each.container) != ("CrashLoopBackOff", CONTAINER)]


def status_of_runtime(pod: Document) -> Document:
    """Return the status of the runtime's container; empty if the pod has none yet."""
    statuses = pod["status"].get("initContainerStatuses") or []
    found: Document = next((each for each in statuses if each["name"] == CONTAINER), {})
    return found


def _is_starting(container: Document) -> bool:
    return bool(_last_start(container)) and not _is_up(container)


def _is_up(container: Document) -> bool:
    """Return whether its startup probe has succeeded, or cannot, because the kubelet cannot start it."""
    waiting = ((container.get("state") or {}).get("waiting") or {}).get("reason")
    return bool(container.get("started")) or waiting in IMAGE_REASONS | CONFIG_REASONS


def _last_start(container: Document) -> str:
    """Return when the container was last started; empty if it was not."""
    state = container.get("state") or {}
    return str((state.get("running") or _ended(container)).get("startedAt") or "")


def _ended(container: Document) -> Document:
    """Return how the container ended the last time; empty if it has not."""
    state, before = container.get("state") or {}, container.get("lastState") or {}
    ended: Document = state.get("terminated") or before.get("terminated") or {}
    return ended


def _ended_by_itself(container: Document) -> bool:
    """Return whether the container ended for another reason than a stop by the kubelet, such as too much memory."""
    ended = _ended(container)
    return bool(ended) and (ended.get("exitCode") not in _STOPPED or ended.get("reason") == "OOMKilled")


def _was_stopped(container: Document, startup_seconds: int) -> bool:
    """Return whether the container ended as one does that the kubelet stops for its startup probe."""
    ended = _ended(container)
    if not ended or _ended_by_itself(container):
        return False
    try:
        ran = datetime.fromisoformat(ended["finishedAt"]) - datetime.fromisoformat(ended["startedAt"])
    except (KeyError, TypeError, ValueError):
        return False
    # Times in a status are whole seconds.
    return ran >= timedelta(seconds=startup_seconds - 1)


def last_failure(events: Iterable[Document], probe: str) -> str | None:
    """Return the message of the last failure of this probe of the runtime, or None."""
    failures = [
        (str(event.get("lastTimestamp") or event.get("eventTime") or ""), str(event.get("message", "")))
        for event in events
        if event.get("reason") == "Unhealthy"
        and is_of_runtime(event)
        and str(event.get("message", "")).startswith(probe)
    ]
    return max(failures)[1] if failures else None


def is_of_runtime(event: Document) -> bool:
    """Return whether a pod's Event is about its runtime."""
    return (event.get("involvedObject") or {}).get("fieldPath") == _FIELD_PATH


def _is_stopped(events: Iterable[Document]) -> bool:
    """Return whether the kubelet stops or stopped the container for its startup probe."""
    return any(event.get("reason") == "Killing" and "startup probe" in str(event.get("message")) for event in events)
