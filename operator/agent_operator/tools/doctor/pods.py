"""Findings about pods of an agent that do not serve. Pure."""

import re
from collections.abc import Iterator
from datetime import datetime

from agent_operator.api.runtime import CONTAINER as RUNTIME
from agent_operator.controller.status.mount_problems import mount_problem
from agent_operator.controller.status.pod_problems import (
    CONFIG_REASONS,
    Problem,
    ending,
    is_meant_to_run,
    pod_problems,
    without_advice,
)
from agent_operator.kube.conditions import condition
from agent_operator.manifests.document import Document
from agent_operator.manifests.names import CONTAINER
from agent_operator.tools.doctor import remedies
from agent_operator.tools.doctor.evidence import Evidence, time_of
from agent_operator.tools.doctor.identity import step_of, step_of_component
from agent_operator.tools.doctor.redact import last_line, masked
from agent_operator.tools.doctor.report import Finding
from agent_operator.tools.doctor.runtime import runtime_findings, starting

READY_CONDITION = "Ready"

# An agent starts within seconds; its startup probe allows two minutes (manifests/pod.py).
LONG_START_SECONDS = 30.0
# Another server listens on the agent's port: it lacks the page, or uses another protocol.
_NOT_OURS = re.compile(r"probe failed with statuscode: (30[0-9]|40[0-57-9])|malformed HTTP")

# Reasons in the agent API's response at /health/ready (docs/how-to/call-an-agent.md).
_REFUSED = "credentials refused"
_NOT_READY = {
    _REFUSED: (
        "CredentialsRefused",
        "the model API refuses the agent's credentials",
        "put a valid key into the Secret that apiKey (or agent.credentials) names; it takes effect without a restart",
    ),
    "starting": ("Starting", "it is still starting", "wait; if it takes long, check its log"),
    "draining": ("Draining", "it is shutting down and finishing its requests", "wait for its replacement"),
}


def pod_findings(evidence: Evidence, component: str, deployment: Document | None) -> Iterator[Finding]:
    """Yield the problems of the pods of a component, in the order of a pod's lifecycle."""
    if deployment is not None:
        yield from _scaled_to_zero(evidence, deployment)
        yield from _refused(deployment)
    pods = [pod for pod in evidence.pods_of(component) if is_meant_to_run(pod)]
    reported: set[str] = set()
    for pod in sorted(pods, key=lambda each: str(each["metadata"]["name"])):
        for finding in _of_pod(evidence, pod, deployment):
            if finding.reason not in reported:
                reported.add(finding.reason)
                yield finding
    if deployment is not None:
        yield from _stuck(deployment)


def _scaled_to_zero(evidence: Evidence, deployment: Document) -> Iterator[Finding]:
    """Yield a finding for a Deployment scaled to 0 pods, which disables its autoscaler.

    Source: Kubernetes, "Horizontal Pod Autoscaling", "Implicit maintenance-mode deactivation".
    """
    name = deployment["metadata"]["name"]
    scaler = evidence.objects.get(("HorizontalPodAutoscaler", name))
    if scaler is not None and deployment["spec"].get("replicas") == 0:
        fewest = scaler["spec"].get("minReplicas", 1)
        yield Finding(
            "pods",
            "ScaledToZeroByHand",
            f"Deployment {name} was manually scaled to 0 pods (as with kubectl scale --replicas=0), which disables its "
            "HorizontalPodAutoscaler, so no pods are started",
            f"kubectl scale deployment/{name} -n {evidence.namespace} --replicas={fewest}",
        )


def _refused(deployment: Document) -> Iterator[Finding]:
    if deployment["spec"].get("paused"):
        name = deployment["metadata"]["name"]
        yield Finding(
            "pods",
            "DeploymentPaused",
            f"The rollout of Deployment {name} is paused, so no change reaches the pods",
            f"kubectl rollout resume deployment/{name}",
        )
    failure = condition(deployment.get("status", {}), "ReplicaFailure")
    if failure.get("status") == "True":
        message = failure.get("message", "")
        reason = "QuotaExceeded" if "exceeded quota" in message else "PodsRefused"
        yield Finding("pods", reason, f"The pods are refused: {message}", remedies.for_refusal(message))


def _stuck(deployment: Document) -> Iterator[Finding]:
    progress = condition(deployment.get("status", {}), "Progressing")
    if progress.get("reason") == "ProgressDeadlineExceeded":
        yield Finding(
            "pods",
            "RolloutStuck",
            f"Deployment {deployment['metadata']['name']} made no progress for ten minutes; the old revision, if there "
            "was one, keeps serving",
            "fix what keeps the new pods from becoming ready, or revert to the previous spec",
        )


def _of_pod(evidence: Evidence, pod: Document, deployment: Document | None) -> Iterator[Finding]:
    name = pod["metadata"]["name"]
    events = evidence.events_of(name)
    not_responding = runtime_findings(evidence, pod, events)
    yield from not_responding
    known = [] if not_responding else pod_problems([pod])
    yield from (_detailed(problem, pod) for problem in known)
    mount = mount_problem(deployment, events) if deployment is not None and _waits(pod) else None
    failed = _messages(events, "FailedMount", "FailedAttachVolume")
    network = _messages(events, "FailedCreatePodSandBox")
    if mount is not None:
        yield Finding("pods", mount.reason, mount.message, remedies.for_mount(mount.message))
    elif failed and not known and _waits(pod):
        message = f"Pod {name} is waiting for a volume: {failed[-1]}"
        yield Finding("pods", "MountFailed", message, remedies.for_mount(failed[-1]))
    elif network and not known and _waits(pod):
        yield Finding(
            "pods",
            "PodSandboxFailed",
            f"The node cannot prepare pod {name}: {network[-1]}",
            "check that the network plugin is running on the pod's node",
        )
    if not known and mount is None and not not_responding:
        yield from _unready(evidence, pod, events)


def _messages(events: list[Document], *reasons: str) -> list[str]:
    """Return the messages of the events with these reasons."""
    return [str(event.get("message")) for event in events if event.get("reason") in reasons]


def _detailed(problem: Problem, pod: Document) -> Finding:
    """Return the problem with details that only the user may see: the container's last line, the exceeded limit."""
    name, message = pod["metadata"]["name"], problem.message
    remedy = _remedy(problem, name)
    if problem.reason in CONFIG_REASONS:
        message = without_advice(problem, name)
    for container in _statuses(pod):
        if container["name"] != problem.container:
            continue
        ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated") or {}
        if problem.reason == "CrashLoopBackOff" and "exitCode" in ended and not container.get("ready"):
            line = last_line(ended.get("message") or "")
            message = without_advice(problem, name) + (f'. Its last line: "{line}"' if line else "")
            remedy = _of_ending(container["name"], ended, pod)
        if problem.reason == "OOMKilled" and ended.get("reason") == "OOMKilled":
            limit = _memory_limit(pod, container["name"])
            message = without_advice(problem, name) + (f" ({limit})" if limit else "")
    return Finding("pods", problem.reason, message.rstrip("."), remedy)


def _statuses(pod: Document) -> list[Document]:
    status = pod["status"]
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _remedy(problem: Problem, pod: str) -> str:
    fields = remedies.RUNTIME if problem.container == RUNTIME else remedies.AGENT
    if problem.reason == "Unschedulable":
        return remedies.for_unscheduled(problem.message)
    if problem.reason in CONFIG_REASONS:
        return remedies.for_container(problem.message, pod, fields)
    if problem.reason == "ImagePullBackOff":
        return remedies.for_image(problem.message, fields)
    return f"raise {fields.memory}" if problem.reason == "OOMKilled" else f"see kubectl describe pod {pod}"


def _of_ending(container: str, ended: Document, pod: Document) -> str:
    log = f"kubectl logs {pod['metadata']['name']} -n {pod['metadata']['namespace']} -c {container} --previous"
    if ending(container, ended).by_image and container in {CONTAINER, RUNTIME}:
        image = "runtime.image or runtime.command" if container == RUNTIME else remedies.AGENT.image
        return f"correct {image}; its log: {log}"
    return f"fix the error that the container reports: {log}"


def _memory_limit(pod: Document, container: str) -> str | None:
    spec = pod.get("spec", {})
    for each in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        if each["name"] == container:
            limit: str | None = (each.get("resources", {}).get("limits") or {}).get("memory")
            return limit
    return None


def _waits(pod: Document) -> bool:
    return not any("running" in each.get("state", {}) for each in pod["status"].get("containerStatuses") or [])


def _unready(evidence: Evidence, pod: Document, events: list[Document]) -> Iterator[Finding]:
    """Yield why a running pod receives no requests: from its own response if there is one, else from its probes."""
    name = pod["metadata"]["name"]
    if starting(pod):
        yield Finding(
            "pods", "Starting", f"Pod {name} waits for its runtime, which is starting", _NOT_READY["starting"][2]
        )
        return
    if condition(pod["status"], READY_CONDITION).get("status") == "True" or _waits(pod):
        return
    health = evidence.health.get(name)
    reason = (health.ready or {}).get("reason") if health is not None else None
    if reason in _NOT_READY:
        word, message, remedy = (reason == _REFUSED and step_of(health)) or _NOT_READY[reason]
        yield Finding("pods", word, f"Pod {name} is running, but not ready: {message}", remedy)
        return
    if reason is not None:
        yield _unready_finding(evidence, name, masked(f"it reports: {reason}"))
        return
    yield from _by_probes(evidence, pod, events)


def _by_probes(evidence: Evidence, pod: Document, events: list[Document]) -> Iterator[Finding]:
    """Yield the failures of the kubelet's probes of running containers, or that the containers are starting."""
    name = pod["metadata"]["name"]
    for container in pod["status"].get("containerStatuses") or []:
        if container.get("ready") or "running" not in container.get("state", {}):
            continue
        since = str((container["state"]["running"] or {}).get("startedAt") or "")
        unhealthy = [each for each in events if each.get("reason") == "Unhealthy" and time_of(each) >= since]
        starting = container.get("started") is False
        kind = "Startup probe" if starting else "Readiness probe"
        failed = [each for each in unhealthy if str(each.get("message", "")).startswith(kind)]
        failure = str(failed[-1].get("message", "")) if failed else ""
        if _NOT_OURS.search(failure) or (
            starting and failed and _seconds(since, time_of(failed[-1])) > LONG_START_SECONDS
        ):
            yield _not_an_agent(evidence, name, container, masked(failure))
        elif starting or not failed:
            yield _starting(name)
        else:
            yield _unready_finding(evidence, name, masked(failure))


def _not_an_agent(evidence: Evidence, pod: str, container: Document, failure: str) -> Finding:
    image, name = container.get("image", "the image"), container["name"]
    return Finding(
        "pods",
        "NotAnAgent",
        f"Container {name} of pod {pod} is running, but does not respond like an agent: {failure}",
        f"check that {image} is the image of an agent (image.repository, image.tag), and check its log: "
        f"kubectl logs {pod} -n {evidence.namespace} -c {name}",
    )


def _unready_finding(evidence: Evidence, pod: str, cause: str) -> Finding:
    message = f"Pod {pod} is running, but not ready: {cause}"
    return Finding("pods", "ReadinessFails", message, f"see why: kubectl logs {pod} -n {evidence.namespace}")


def _starting(pod: str) -> Finding:
    word, message, remedy = _NOT_READY["starting"]
    return Finding("pods", word, f"Pod {pod} is running, but not ready: {message}", remedy)


def _seconds(earlier: str, later: str) -> float:
    """Return the seconds between two times of the API; 0 if one is missing."""
    try:
        return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def down(evidence: Evidence) -> Iterator[Finding]:
    """Yield the dependencies that the pods report as unreachable."""
    reported: set[str] = set()
    for pod, health in sorted(evidence.health.items()):
        for component, state in ((health.components or {}).get("components") or {}).items():
            # doctor/tools.py has the findings about the servers of tools.
            if state.get("status") == "down" and component not in {*reported, "tools"}:
                reported.add(component)
                reason, remedy = _DOWN.get(component, ("ComponentDown", "check /health of the agent"))
                detail = masked(str(state.get("detail", "")))
                if component == "model_api" and (step := step_of_component(state)) is not None:
                    reason, detail, remedy = step
                kind = f" ({state['kind']})" if isinstance(state.get("kind"), str) else ""
                message = f"Pod {pod} reports that {component} is down{kind}: {detail}"
                yield Finding("pods", reason, message, remedy, note=True)


_DOWN = {
    "issuers": (
        "IssuerUnavailable",
        "check auth.jwt.issuers (issuer, jwksUrl), the egress of the network, and the issuer; the pod's log has more",
    ),
    "redis": ("RedisUnreachable", "check redis.url or the Secret in redis.secretName, and the network policies"),
    "model_api": ("ModelApiUnreachable", "check agent.baseUrl, the egress of the network, and the provider's status"),
    "model_primary": ("OnFallback", "check the agent's own provider, its credentials and the egress of the network"),
    "runtime": (
        "RuntimeUnavailable",
        "correct runtime.protocol, runtime.path or runtime.healthPath to what the program serves, and check its log",
    ),
}
