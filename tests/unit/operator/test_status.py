"""The status of an agent. The cluster tests verify it with the real controllers; these are the edge cases."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import AgentSpec
from agent_operator.api.status import AgentStatus
from agent_operator.controller.reconcile.publish import news
from agent_operator.controller.status.pod_problems import Problem, pod_problems
from agent_operator.controller.status.status import Observation, same, status_of, status_of_invalid
from agent_operator.kube.conditions import condition

Document = dict[str, Any]

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def agent(**spec: Any) -> AgentDeployment:
    model = AgentSpec.model_validate({"agent": {"provider": "echo"}, **spec})
    return AgentDeployment("hello", "prod", model, uid="uid", generation=3)


def deployment(
    replicas: int = 2, *, seen: bool = True, progressing: str = "NewReplicaSetAvailable", **status: int
) -> Document:
    counts = {"replicas": replicas, "updatedReplicas": replicas, "availableReplicas": replicas, **status}
    return {
        "metadata": {"name": "hello", "generation": 5},
        "spec": {"replicas": replicas},
        "status": {
            **counts,
            "observedGeneration": 5 if seen else 4,
            "conditions": [{"type": "Progressing", "status": "True", "reason": progressing}],
        },
    }


def pod(name: str = "hello-1", *, container: Document | None = None, **metadata: Any) -> Document:
    state = {"name": "agent", "image": "x", "ready": False, **(container or {})}
    return {"metadata": {"name": name, **metadata}, "status": {"phase": "Pending", "containerStatuses": [state]}}


def judged(seen: Observation, old: Document | None = None, **spec: Any) -> dict[str, tuple[str, str]]:
    status = status_of(agent(**spec), seen, old or {}, NOW)
    return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}


def test_every_condition_exists_from_the_first_reconcile_in_the_standard_form() -> None:
    status = status_of(agent(), Observation(), {}, NOW)

    assert AgentStatus.model_validate(status)
    assert [each["type"] for each in status["conditions"]] == ["Ready", "Progressing", "Degraded"]
    assert {each["observedGeneration"] for each in status["conditions"]} == {3}
    assert {each["lastTransitionTime"] for each in status["conditions"]} == {"2026-01-01T12:00:00Z"}


@pytest.mark.parametrize(
    ("seen", "spec", "ready"),
    [
        (deployment(), {"replicas": 2}, ("True", "Serving")),
        (deployment(seen=False), {"replicas": 2}, ("False", "RollingOut")),
        (deployment(updatedReplicas=1), {"replicas": 2}, ("False", "RollingOut")),
        (deployment(progressing="ReplicaSetUpdated", availableReplicas=1), {"replicas": 2}, ("False", "RollingOut")),
        (deployment(availableReplicas=1), {"replicas": 2}, ("False", "PodsNotReady")),
        (deployment(0), {"replicas": 0}, ("True", "ScaledToZero")),
        (deployment(4, availableReplicas=2), {"autoscaling": {"enabled": True, "minReplicas": 2}}, ("True", "Serving")),
        (
            deployment(4, availableReplicas=1),
            {"autoscaling": {"enabled": True, "minReplicas": 2}},
            ("False", "PodsNotReady"),
        ),
        (deployment(progressing="ProgressDeadlineExceeded"), {"replicas": 2}, ("False", "ProgressDeadlineExceeded")),
    ],
)
def test_ready_means_that_enough_pods_of_this_revision_serve(
    seen: Document, spec: Document, ready: tuple[str, str]
) -> None:
    assert judged(Observation(seen), **spec)["Ready"] == ready


def test_an_agent_is_not_ready_while_its_spec_cannot_be_applied_though_the_old_one_serves() -> None:
    hindered = Observation(deployment(), problems=[Problem("NameConflict", "Service hello is not ours")])

    assert judged(hindered, replicas=2) == {
        "Ready": ("False", "NameConflict"),
        "Progressing": ("False", "RolloutComplete"),
        "Degraded": ("True", "NameConflict"),
    }


def test_a_failing_pod_degrades_an_agent_that_still_serves() -> None:
    sick = pod(container={"state": {"waiting": {"reason": "ImagePullBackOff"}}})

    assert judged(Observation(deployment(), pods=[sick]), replicas=2) == {
        "Ready": ("True", "Serving"),
        "Progressing": ("False", "RolloutComplete"),
        "Degraded": ("True", "ImagePullBackOff"),
    }


def test_the_transition_time_is_kept_until_the_status_changes() -> None:
    before = status_of(agent(), Observation(), {}, NOW)
    later = NOW + timedelta(hours=1)

    waiting = status_of(agent(), Observation(deployment(1, seen=False)), before, later)
    serving = status_of(agent(), Observation(deployment(1)), waiting, later)

    assert condition(waiting, "Ready")["lastTransitionTime"] == "2026-01-01T12:00:00Z"
    assert condition(serving, "Ready")["lastTransitionTime"] == "2026-01-01T13:00:00Z"
    assert condition(serving, "Degraded")["lastTransitionTime"] == "2026-01-01T12:00:00Z"


def test_two_statuses_that_differ_only_in_times_are_equal() -> None:
    one = status_of(agent(), Observation(deployment()), {}, NOW)
    other = status_of(agent(), Observation(deployment()), {}, NOW + timedelta(hours=1))

    assert one != other
    assert same(one, other)
    assert not same(one, status_of(agent(), Observation(), {}, NOW))


def test_an_invalid_spec_is_reported_and_the_rest_of_the_status_is_kept() -> None:
    before = status_of(agent(), Observation(deployment()), {}, NOW)

    status = status_of_invalid(4, ["spec.replicas: input should be a valid integer"], before, NOW)

    assert AgentStatus.model_validate(status)
    assert (status["observedGeneration"], status["url"]) == (4, before["url"])
    assert condition(status, "Ready")["reason"] == "InvalidSpec"
    assert "spec.replicas: input should be a valid integer" in condition(status, "Degraded")["message"]


def test_the_message_of_a_failing_pull_is_the_same_for_both_reasons_of_the_kubelet() -> None:
    cause = 'failed to pull and unpack image "x": not found'
    one = pod(container={"state": {"waiting": {"reason": "ErrImagePull", "message": cause}}})
    wrapped = f'Back-off pulling image "x": ErrImagePull: {cause}'
    other = pod(container={"state": {"waiting": {"reason": "ImagePullBackOff", "message": wrapped}}})

    assert pod_problems([one]) == pod_problems([other])


def test_a_crashing_container_is_reported_the_same_while_it_runs_and_while_it_waits() -> None:
    ended = {"lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "boom"}}}
    runs = pod(container={"state": {"running": {}}, **ended})
    waits = pod(container={"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}}, **ended})

    assert pod_problems([runs]) == pod_problems([waits])
    assert "exit code 1 (Error)" in pod_problems([runs])[0].message
    assert "boom" not in pod_problems([runs])[0].message


def test_terminating_and_recovered_pods_are_not_a_problem() -> None:
    failing = {"state": {"waiting": {"reason": "ImagePullBackOff"}}}
    leaving = pod(container=failing, deletionTimestamp="2026-01-01T00:00:00Z")
    over = {**pod(container=failing), "status": {**pod(container=failing)["status"], "phase": "Failed"}}
    well = pod(container={"ready": True, "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}})

    assert pod_problems([leaving, over, well]) == []


def test_the_same_problem_of_many_pods_is_reported_once() -> None:
    failing = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}

    assert len(pod_problems([pod(f"hello-{number}", container=failing) for number in range(5)])) == 1


def test_events_are_emitted_for_changes_only() -> None:
    waiting = status_of(agent(), Observation(), {}, NOW)
    broken = status_of(agent(), Observation(problems=[Problem("NameConflict", "not ours")]), waiting, NOW)
    serving = status_of(agent(), Observation(deployment()), broken, NOW)

    assert list(news({}, waiting)) == []
    assert list(news(waiting, broken)) == [("Warning", "NameConflict", "not ours")]
    assert list(news(broken, broken)) == []
    assert list(news(broken, serving)) == [("Normal", "Ready", "The current revision takes requests")]


def test_an_agent_with_workers_is_ready_only_when_they_are() -> None:
    workers: Document = {"redis": {"url": "redis://state:6379/0"}, "worker": {"enabled": True, "replicas": 2}}
    few = deployment(2, availableReplicas=1)

    assert judged(Observation(deployment(1)), **workers)["Ready"] == ("False", "Creating")
    assert judged(Observation(deployment(1), worker=few), **workers)["Ready"] == ("False", "PodsNotReady")
    assert judged(Observation(deployment(1), worker=deployment(2)), **workers)["Ready"] == ("True", "Serving")


def test_several_pods_without_shared_state_are_reported() -> None:
    alone = status_of(agent(replicas=1), Observation(deployment(1)), {}, NOW)
    apart = status_of(agent(replicas=2), Observation(deployment(2)), {}, NOW)
    shared = status_of(agent(replicas=2, redis={"url": "redis://state"}), Observation(deployment(2)), {}, NOW)

    warned = ["redis" in condition(status, "Ready")["message"] for status in (alone, apart, shared)]
    assert warned == [False, True, False]


def test_likely_mistakes_in_a_spec_are_reported_while_the_agent_serves() -> None:
    unwise = {"securityContext": {"readOnlyRootFilesystem": False}, "redis": {"url": "redis://state"}, "replicas": 2}
    status = status_of(agent(**unwise, podDisruptionBudget={"minAvailable": 2}), Observation(deployment(2)), {}, NOW)
    wise = status_of(agent(), Observation(deployment(1)), {}, NOW)

    message = condition(status, "Ready")["message"]
    assert (
        "spec.securityContext replaces the entire default and removes its allowPrivilegeEscalation, capabil" in message
    )
    assert "spec.podDisruptionBudget.minAvailable allows none of the 2 pods to be evicted" in message
    assert condition(wise, "Ready")["message"] == "The current revision takes requests"
