"""The status of an agent, computed from what was observed of it. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.cautions import cautions
from agent_operator.classes.choice import Applied
from agent_operator.controller.status.approvals import status_of_approvals
from agent_operator.controller.status.budget import WITHIN_BUDGET, judge_budget, status_of_budget
from agent_operator.controller.status.dependencies import (
    DEPENDENCIES_REACHABLE,
    Report,
    judge_dependencies,
    lasting_outage,
    seconds_until_lasting,
)
from agent_operator.controller.status.drift import DRIFTED, Left, judge_drift
from agent_operator.controller.status.pod_problems import Problem, pod_problems
from agent_operator.controller.status.runtime_problems import without_consequences
from agent_operator.controller.status.scaling import Scaled, judge_scaling
from agent_operator.controller.status.tool_lists import Address, status_of_servers, without_hashes
from agent_operator.controller.status.tool_servers import REQUIRED_UNAVAILABLE, TOOLS_READY, judge_tools
from agent_operator.kube.conditions import Judgement, condition, conditions
from agent_operator.manifests.container import image_reference
from agent_operator.manifests.document import Document, without_empty
from agent_operator.manifests.labels import selector
from agent_operator.manifests.service import url

# Every agent has these. In addition, a scaled agent has ScalingActive, one with a budget WithinBudget, one whose pods
# report on their dependencies DependenciesReachable, and one with servers of tools ToolsReady.
CONDITIONS = ("Ready", "Progressing", "Degraded")
SCALING_ACTIVE = "ScalingActive"
# The reason of conditions where the operator's policy refuses the spec.
POLICY_REFUSED = "PolicyRefused"
# How the message begins where pods are refused, not the objects that the operator applies: a quota may refuse both.
PODS_REFUSED = "Pods are refused"

INLINE_KEY = (
    "The API key is in the spec, where everyone who can read this object can read it: move it to a Secret "
    "(apiKey.secretName)"
)
# Each attempt has a different pod name; the cause stays the same.
_POD_NAME = re.compile(r'pods "([^" ]+-)[a-z0-9]{5}"')

STUCK = "The new revision did not become available in time"
NO_REDIS = "Each pod has its own conversations, tasks and limits: configure a Redis to share them (redis)"


@dataclass
class Observation:
    """What was observed of a valid agent.

    `problems` is what could not be done for it, `unresolved` are references of tools that it serves without,
    `addresses` those of references that have one, `in_events` are the problems in its pods' Events, `left` are objects
    left with foreign changes, and `reported` is what its pods reported.
    """

    deployment: Document | None = None
    worker: Document | None = None
    autoscaler: Document | None = None
    worker_autoscaler: Document | None = None
    pods: list[Document] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unresolved: list[Problem] = field(default_factory=list)
    addresses: Mapping[str, Address] = field(default_factory=dict)
    in_events: list[Problem] = field(default_factory=list)
    left: Sequence[Left] = ()
    reported: Report = field(default_factory=Report)


@dataclass(frozen=True)
class _Part:
    """A Deployment of an agent: its name in messages, the object if it exists, and the minimum number of its pods."""

    title: str
    deployment: Document | None
    needed: int

    @property
    def available(self) -> int:
        number: int = (self.deployment or {}).get("status", {}).get("availableReplicas", 0)
        return number


def status_of(agent: AgentDeployment, seen: Observation, old: Mapping[str, Any], now: datetime) -> Document:
    """Return the status of a valid agent. `old` is its previous status; unchanged conditions keep their times."""
    deployed = (seen.deployment or {}).get("status", {})
    labels = ",".join(f"{key}={value}" for key, value in selector(agent.name).items())
    return without_empty(
        {
            "observedGeneration": agent.generation,
            "replicas": deployed.get("replicas", 0),
            "readyReplicas": deployed.get("readyReplicas", 0),
            "podsReady": _ready_of_desired(seen.deployment),
            "workersReady": _ready_of_desired(seen.worker),
            "selector": labels,
            "url": url(agent),
            "model": agent.spec.agent.model if agent.spec.agent.provider != "echo" else "echo",
            "image": image_reference(agent.spec.image),
            "className": agent.class_name,
            "budget": status_of_budget(agent.spec.budget, seen.reported.used, old),
            "approvalsWaiting": status_of_approvals(agent.spec.tools or [], seen.reported.approvals, old),
            "toolServers": status_of_servers(
                agent.spec.tools or [], seen.reported.tool_lists, seen.addresses, agent.generation, old
            ),
            "conditions": conditions(_judge(agent, seen, old, now), agent.generation, old, now),
        }
    )


def status_of_invalid(generation: int, faults: Sequence[str], old: Mapping[str, Any], now: datetime) -> Document:
    """Return the status of an object that this operator's schema rejects. What is known of its pods is kept."""
    message = f"The spec is not valid, so nothing was changed: {'; '.join(faults)}"
    return _status_of_unchanged("InvalidSpec", message, generation, old, now)


def status_of_refused(applied: Applied, deployment: Document | None, old: Mapping[str, Any], now: datetime) -> Document:
    """Return the status of an agent that its class or the operator's policy refuses. Its pods continue unchanged."""
    refusal = applied.refusal
    assert refusal is not None  # noqa: S101  the caller's reason to be here
    message = f"{refusal.sentence}, so nothing was changed: {'; '.join(map(str, refusal.faults))}"
    deployed = (deployment or {}).get("status", {})
    known = {"replicas": deployed.get("replicas", 0), "readyReplicas": deployed.get("readyReplicas", 0)}
    kept = without_empty({**old, **known, "className": applied.name})
    return _status_of_unchanged(refusal.reason, message, applied.agent.generation, kept, now)


def _status_of_unchanged(reason: str, message: str, generation: int, old: Mapping[str, Any], now: datetime) -> Document:
    judgements = {
        "Ready": Judgement("False", reason, message),
        "Progressing": Judgement("False", reason, "Waiting for the spec to be corrected"),
        "Degraded": Judgement("True", reason, message),
    }
    servers = old.get("toolServers") or []
    if old.get("observedGeneration") != generation:
        servers = without_hashes(servers)
    return {
        **{key: value for key, value in old.items() if key != "toolServers"},
        **({"toolServers": servers} if servers else {}),
        "observedGeneration": generation,
        "conditions": conditions(judgements, generation, old, now),
    }


def seconds_until_degraded(status: Mapping[str, Any], now: datetime) -> float | None:
    """Return the seconds until an outage in a status makes the agent Degraded; None if none will."""
    names = [DEPENDENCIES_REACHABLE]
    if condition(status, TOOLS_READY).get("reason") == REQUIRED_UNAVAILABLE:
        names.append(TOOLS_READY)
    left = [seconds_until_lasting(status, name, now) for name in names]
    return min((seconds for seconds in left if seconds is not None), default=None)


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two statuses are equal, ignoring transition times."""
    return _without_times(one) == _without_times(other)


def is_ready(status: Mapping[str, Any]) -> bool:
    """Return whether the status reports that the agent serves."""
    return condition(status, "Ready").get("status") == "True"


def _parts(agent: AgentDeployment, seen: Observation) -> list[_Part]:
    scaling, worker = agent.spec.autoscaling, agent.spec.worker
    parts = [_Part("pod", seen.deployment, scaling.min_replicas if scaling.enabled else agent.spec.replicas)]
    if worker.enabled:
        needed = worker.autoscaling.min_replicas if worker.autoscaling.enabled else worker.replicas
        parts.append(_Part("worker", seen.worker, needed))
    return parts


def _ready_of_desired(deployment: Document | None) -> str | None:
    if deployment is None:
        return None
    return f"{deployment.get('status', {}).get('readyReplicas', 0)}/{deployment['spec'].get('replicas', 1)}"


def _judge(agent: AgentDeployment, seen: Observation, old: Mapping[str, Any], now: datetime) -> dict[str, Judgement]:
    parts = _parts(agent, seen)
    failures = [problem for part in parts for problem in _of_deployment(part.deployment)]
    of_pods = without_consequences([*seen.problems, *seen.in_events, *failures, *pod_problems(seen.pods)])
    problems = [*of_pods, *seen.unresolved]
    rollouts = [_rollout(part) for part in parts]
    rollout = next((each for each in rollouts if each.reason != "RolloutComplete"), rollouts[0])
    ready = _ready(seen, parts, rollout, problems)
    advice = list(_advice(agent, ready))
    if advice:
        ready = Judgement(ready.status, ready.reason, ". ".join([ready.message.rstrip("."), *advice]))
    dependencies = judge_dependencies(seen.reported.dependencies, old)
    tools = judge_tools(agent.spec.tools or [], seen.reported.tool_servers, seen.reported.dependencies, old)
    required = tools if tools is not None and tools.reason == REQUIRED_UNAVAILABLE else None
    outages = [
        lasting_outage(DEPENDENCIES_REACHABLE, dependencies, old, now),
        lasting_outage(TOOLS_READY, required, old, now),
    ]
    problems = [*problems, *(outage for outage in outages if outage is not None)]
    degraded = _degraded(problems, [each for each in (dependencies, tools) if each is not None])
    judgements = {"Ready": ready, "Progressing": rollout, "Degraded": degraded}
    scaling = judge_scaling(_scaled(agent, seen))
    budget = judge_budget(agent.spec.budget, seen.reported.used, old)
    optional = {SCALING_ACTIVE: scaling, WITHIN_BUDGET: budget, DEPENDENCIES_REACHABLE: dependencies}
    optional |= {TOOLS_READY: tools, DRIFTED: judge_drift(seen.left)}
    return judgements | {name: judgement for name, judgement in optional.items() if judgement is not None}


def _scaled(agent: AgentDeployment, seen: Observation) -> list[Scaled]:
    worker = agent.spec.worker
    scaled = [Scaled("pods", seen.autoscaler)] if agent.spec.autoscaling.enabled else []
    if worker.enabled and worker.autoscaling.enabled:
        scaled.append(Scaled("workers", seen.worker_autoscaler))
    return scaled


def _advice(agent: AgentDeployment, ready: Judgement) -> Iterable[str]:
    """Yield advice about settings that are applied as specified, but are not advisable."""
    spec = agent.spec
    if spec.api_key.value is not None:
        yield INLINE_KEY
    most = spec.autoscaling.max_replicas if spec.autoscaling.enabled else spec.replicas
    # During another problem, this advice would only hide it.
    if ready.status == "True" and most > 1 and not spec.redis.given:
        yield NO_REDIS
    if ready.status == "True":
        yield from (f"{field} {sentence}" for field, sentence in cautions(spec))


def _degraded(problems: Sequence[Problem], reported: Sequence[Judgement]) -> Judgement:
    """Return the Degraded condition, from the problems and what the pods report."""
    outages = [judgement.message for judgement in reported if judgement.status == "False"]
    if not problems and outages:
        return Judgement("False", "AsExpected", f"No problem is known except this: {'; '.join(outages)}")
    if not problems:
        return Judgement("False", "AsExpected", "No problem is known")
    return Judgement("True", problems[0].reason, "; ".join(problem.message for problem in problems))


def _rollout(part: _Part) -> Judgement:
    """Return whether a new revision is rolling out (Kubernetes: "Deployments", "Complete Deployment")."""
    deployment, pods = part.deployment, f"{part.title}s"
    if deployment is None:
        return Judgement("True", "Creating", f"The Deployment of the {pods} does not exist yet")
    status, spec = deployment.get("status", {}), deployment["spec"]
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return Judgement("True", "RollingOut", "The Deployment's controller has not observed the new revision yet")
    if _condition_of(deployment, "Progressing").get("reason") == "ProgressDeadlineExceeded":
        return Judgement("False", "ProgressDeadlineExceeded", STUCK)
    replicas, updated = status.get("replicas", 0), status.get("updatedReplicas", 0)
    if replicas > updated:
        return Judgement("True", "RollingOut", f"{pods.capitalize()} of the old revision are still being replaced")
    # Remains set from the end of a rollout until the next one, even while an autoscaler adds pods.
    complete = _condition_of(deployment, "Progressing").get("reason") == "NewReplicaSetAvailable"
    if not complete and (updated < spec.get("replicas", 1) or part.available < updated):
        return Judgement("True", "RollingOut", f"{pods.capitalize()} of the new revision are starting")
    return Judgement("False", "RolloutComplete", "All pods are of the current revision")


def _ready(seen: Observation, parts: Sequence[_Part], rollout: Judgement, problems: Sequence[Problem]) -> Judgement:
    """Return the Ready condition: true if this spec's revision serves, with at least the requested number of pods."""
    if seen.problems:
        return Judgement("False", seen.problems[0].reason, seen.problems[0].message)
    short = next((part for part in parts if part.available < part.needed), None)
    if rollout.reason == "RolloutComplete" and short is None:
        if parts[0].needed == 0:
            return Judgement("True", "ScaledToZero", "No pods are desired (spec.replicas is 0)")
        return Judgement("True", "Serving", "The current revision takes requests")
    if problems:
        return Judgement("False", problems[0].reason, problems[0].message)
    if rollout.reason != "RolloutComplete" or short is None:
        return Judgement("False", rollout.reason, rollout.message)
    return Judgement("False", "PodsNotReady", f"Fewer {short.title}s are ready than desired ({short.needed})")


def _of_deployment(deployment: Document | None) -> Iterable[Problem]:
    if deployment is None:
        return
    failure = _condition_of(deployment, "ReplicaFailure")
    if failure.get("status") == "True":
        cause = _POD_NAME.sub(r'pods "\1…"', failure.get("message", ""))
        reason = "QuotaExceeded" if "exceeded quota" in cause else "PodsRefused"
        yield Problem(reason, f"{PODS_REFUSED}: {cause}")
    if _condition_of(deployment, "Progressing").get("reason") == "ProgressDeadlineExceeded":
        yield Problem("ProgressDeadlineExceeded", STUCK)


def _condition_of(deployment: Document, name: str) -> Mapping[str, Any]:
    return condition(deployment.get("status", {}), name)


def _without_times(status: Mapping[str, Any]) -> dict[str, Any]:
    conditions = [
        {key: value for key, value in each.items() if key != "lastTransitionTime"}
        for each in status.get("conditions") or []
    ]
    return {**status, "conditions": conditions}
