"""Problems of a runtime, by statuses and Events as the kubelet of the e2e tests writes them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_operator.api.runtime import Runtime
from agent_operator.controller.status.pod_problems import pod_problems
from agent_operator.controller.status.runtime_problems import runtime_problem, runtime_that_starts, without_consequences

Document = dict[str, Any]

STARTED = datetime(2026, 11, 30, 2, 4, 38, tzinfo=UTC)
RUNTIME = Runtime.model_validate({"image": "example.com/agent:1", "startupSeconds": 8})
REFUSED = 'Startup probe failed: Get "http://10.244.0.10:8080/ping": dial tcp 10.244.0.10:8080: connect: {}'.format(
    "connection refused"
)
GARBAGE = (
    'Startup probe failed: Get "http://10.244.0.15:8080/ping": net/http: HTTP/1.x transport connection broken: '
    'malformed HTTP response "SSH-2.0-x"'
)
SLOW = (
    'Startup probe failed: Get "http://10.244.0.7:8080/ping": context deadline exceeded '
    "(Client.Timeout exceeded while awaiting headers)"
)


def status_code(code: int) -> str:
    return f"Startup probe failed: HTTP probe failed with statuscode: {code}"


def at(seconds: float) -> str:
    return (STARTED + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def terminated(code: int, reason: str = "Error", *, seconds: float = 0) -> Document:
    times = {"startedAt": at(0), "finishedAt": at(seconds)}
    return {"terminated": {"exitCode": code, "reason": reason, "message": "sk-secret", **times}}


def pod(state: Document | None = None, last: Document | None = None, *, started: bool = False) -> Document:
    """Return a pod whose container waits for the runtime."""
    runtime = {
        "name": "runtime",
        "image": "example.com/agent:1",
        "ready": started,
        "started": started,
        "state": state or {"running": {"startedAt": at(0)}},
        "lastState": last or {},
    }
    agent = {
        "name": "agent",
        "ready": False,
        "started": False,
        "state": {"waiting": {"reason": "PodInitializing"}},
        "lastState": {},
    }
    return {
        "metadata": {"name": "hello-1"},
        "status": {"phase": "Pending", "initContainerStatuses": [runtime], "containerStatuses": [agent]},
    }


def event(message: str, seconds: float = 1, reason: str = "Unhealthy", container: str = "runtime") -> Document:
    path = f"spec.initContainers{{{container}}}"
    return {
        "reason": reason,
        "message": message,
        "lastTimestamp": at(seconds),
        "involvedObject": {"name": "hello-1", "fieldPath": path},
    }


KILLED = event("Init container runtime failed startup probe", 8, "Killing")


def found(the_pod: Document, *events: Document, seconds: float = 2, runtime: Runtime = RUNTIME) -> str:
    problem = runtime_problem(the_pod, runtime, events, STARTED + timedelta(seconds=seconds))
    assert problem is None or (problem.reason, problem.container) == ("RuntimeNotResponding", "runtime")
    return "" if problem is None else problem.message


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (REFUSED, ["nothing listens on port 8080", "runtime.port", "instead of 127.0.0.1", "PORT"]),
        (status_code(404), ["404 at /ping", "runtime.healthPath", "runtime.protocol"]),
        (status_code(401), ["401 at /ping", "runtime.healthPath", "login"]),
        (status_code(503), ["503 at /ping", "busy"]),
        (GARBAGE, ["does not speak HTTP", "runtime.port"]),
        (SLOW, ["no response at /ping", "runtime.startupSeconds"]),
    ],
)
def test_the_cause_and_the_field_to_change_are_named(failure: str, words: list[str]) -> None:
    message = found(pod(), event(failure), seconds=20)

    assert 'container "runtime" of pod hello-1' in message
    assert [each for each in words if each not in message] == []


@pytest.mark.parametrize(
    ("failure", "at_once"),
    [(REFUSED, False), (SLOW, False), (status_code(503), False), (status_code(404), True), (GARBAGE, True)],
)
def test_what_may_pass_while_the_program_starts_is_reported_later(failure: str, at_once: bool) -> None:
    assert bool(found(pod(), event(failure))) is at_once
    assert found(pod(), event(failure), seconds=15)


def test_it_is_reported_as_soon_as_the_kubelet_gives_up() -> None:
    assert found(pod(), event(REFUSED), KILLED)


def test_it_stays_reported_after_the_restart_although_the_kubelet_drops_further_events() -> None:
    restarted = pod({"running": {"startedAt": at(30)}}, terminated(137, seconds=28))

    assert found(restarted, event(REFUSED, 7), seconds=31)


def test_the_newest_failure_counts() -> None:
    assert "404" in found(pod(), event(status_code(404), 5), event(REFUSED, 1), seconds=20)


def test_path_and_port_are_those_of_the_spec() -> None:
    runtime = Runtime(image="example.com/agent:1", protocol="a2a", port=9999)

    assert "404 at /.well-known/agent-card.json" in found(pod(), event(status_code(404)), runtime=runtime)
    assert "port 9999" in found(pod(), event(REFUSED), seconds=20, runtime=runtime)


@pytest.mark.parametrize(
    "the_pod",
    [
        pod(started=True),
        pod(terminated(3)),
        pod({"waiting": {"reason": "CrashLoopBackOff"}}, terminated(0, "Completed")),
        pod({"waiting": {"reason": "CrashLoopBackOff"}}, terminated(137, "OOMKilled")),
        pod({"waiting": {"reason": "PodInitializing"}}),
        pod({"waiting": {"reason": "ImagePullBackOff"}}),
    ],
    ids=["serves", "crashed", "ended", "out-of-memory", "not-started", "no-image"],
)
def test_a_runtime_that_serves_or_ended_for_another_cause_has_no_such_problem(the_pod: Document) -> None:
    assert found(the_pod, event(REFUSED), seconds=60) == ""


@pytest.mark.parametrize("end", [terminated(137, "OOMKilled"), terminated(3)], ids=["out-of-memory", "crashed"])
def test_a_runtime_that_ends_by_itself_has_no_such_problem_although_the_kubelet_stopped_it_before(
    end: Document,
) -> None:
    for the_pod in (
        pod({"waiting": {"reason": "CrashLoopBackOff"}}, end),
        pod({"running": {"startedAt": at(30)}}, end),
    ):
        assert found(the_pod, event(REFUSED), KILLED, seconds=60) == ""


def test_events_of_other_containers_do_not_count() -> None:
    assert found(pod(), event(status_code(404), container="migrate")) == ""


def test_a_runtime_starts_until_it_has_responded() -> None:
    assert runtime_that_starts([pod(started=True), pod()]) == pod()
    assert runtime_that_starts([pod(started=True)]) is None
    assert runtime_that_starts([pod({"waiting": {"reason": "PodInitializing"}})]) is None


@pytest.mark.parametrize(
    ("the_pod", "reason", "words"),
    [
        (
            pod({"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x": ErrImagePull: no'}}),
            "ImagePullBackOff",
            ["example.com/agent:1", 'container "runtime"'],
        ),
        (
            pod(
                {
                    "waiting": {
                        "reason": "CreateContainerConfigError",
                        "message": "container has runAsNonRoot and image will run as root (pod: x, container: runtime)",
                    }
                }
            ),
            "CreateContainerConfigError",
            ["run as root", "runtime.securityContext.runAsUser", "USER in the image"],
        ),
        (
            pod({"waiting": {"reason": "CrashLoopBackOff"}}, terminated(137, "OOMKilled")),
            "OOMKilled",
            ["runtime.resources.limits.memory", "raise it"],
        ),
        (
            pod({"waiting": {"reason": "CrashLoopBackOff"}}, terminated(3)),
            "CrashLoopBackOff",
            ["exit code 3", "kubectl logs hello-1 -c runtime --previous"],
        ),
        (
            pod(terminated(0, "Completed")),
            "CrashLoopBackOff",
            ["exit code 0", "keep running", "PORT"],
        ),
        (
            pod({"waiting": {"reason": "CrashLoopBackOff"}}, terminated(128, "StartError")),
            "CrashLoopBackOff",
            ["runtime.image", "runtime.command"],
        ),
    ],
    ids=["image", "root", "memory", "crash", "ended", "no-program"],
)
def test_what_keeps_the_container_from_running_is_named(the_pod: Document, reason: str, words: list[str]) -> None:
    [problem] = pod_problems([the_pod])

    assert problem.reason == reason
    assert [each for each in words if each not in problem.message] == []
    assert "sk-secret" not in problem.message


def test_a_runtime_that_starts_is_no_problem_of_the_pod() -> None:
    assert pod_problems([pod(), pod(started=True)]) == []


def test_restarts_by_the_probe_are_not_reported_beside_their_cause() -> None:
    restarted = pod({"waiting": {"reason": "CrashLoopBackOff"}}, terminated(143, seconds=9))
    problem = runtime_problem(restarted, RUNTIME, [event(REFUSED)], STARTED)
    assert problem is not None

    assert without_consequences([problem, *pod_problems([restarted])]) == [problem]
    assert without_consequences(pod_problems([restarted])) == pod_problems([restarted])
