"""What keeps the pods of an agent from serving. Pure."""

from collections.abc import Iterator

from agent_operator.controller.conditions import condition
from agent_operator.controller.mounts import mount_trouble
from agent_operator.controller.pods import Trouble, is_meant_to_run, troubles
from agent_operator.manifests.form import Document
from agent_operator.tools.doctor.evidence import Evidence
from agent_operator.tools.doctor.report import Finding
from agent_operator.tools.doctor.words import last_line, masked

READY_CONDITION = "Ready"

# What to do about what controller/pods.py finds.
_REMEDIES = {
    "ImagePullBackOff": "put image.repository, image.tag or image.digest right, or name a Secret for the registry in "
    "imagePullSecrets",
    "CreateContainerConfigError": "make the Secret or ConfigMap, or the key in it, that the message names",
    "Unschedulable": "make room or add a node, or change resources, nodeSelector, tolerations or affinity of the agent",
    "OOMKilled": "raise resources.limits.memory of the agent",
}

# What the agent API answers at /health/ready (docs/agent-api.md).
_NOT_READY = {
    "credentials refused": (
        "CredentialsRefused",
        "the model API refuses the agent's key",
        "put a valid key into the Secret that apiKey names; it is used with no restart",
    ),
    "starting": ("Starting", "it is still starting", "wait; if that takes long, see its log"),
    "draining": ("Draining", "it was told to stop and finishes its requests", "wait for its successor"),
}


def pod_findings(evidence: Evidence, component: str, deployment: Document | None) -> Iterator[Finding]:
    """What is wrong with the pods of a component, first what comes first in a pod's life."""
    if deployment is not None:
        yield from _refused(deployment)
    pods = [pod for pod in evidence.pods_of(component) if is_meant_to_run(pod)]
    told: set[str] = set()
    for pod in sorted(pods, key=lambda each: str(each["metadata"]["name"])):
        for finding in _of_pod(evidence, pod, deployment):
            if finding.reason not in told:
                told.add(finding.reason)
                yield finding
    if deployment is not None:
        yield from _stuck(deployment)


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
        said = failure.get("message", "")
        if "exceeded quota" in said:
            remedy = "raise the ResourceQuota of the namespace, or ask for less (resources, replicas)"
            yield Finding("pods", "QuotaExceeded", f"The pods are refused: {said}", remedy)
        else:
            remedy = "change what the admission rule in the message objects to, in the agent or in the namespace"
            yield Finding("pods", "PodsRefused", f"The pods are refused: {said}", remedy)


def _stuck(deployment: Document) -> Iterator[Finding]:
    progress = condition(deployment.get("status", {}), "Progressing")
    if progress.get("reason") == "ProgressDeadlineExceeded":
        yield Finding(
            "pods",
            "RolloutStuck",
            f"Deployment {deployment['metadata']['name']} made no progress for ten minutes; the old revision, if there "
            "was one, keeps serving",
            "mend what keeps the new pods from being ready, or go back to the spec before",
        )


def _of_pod(evidence: Evidence, pod: Document, deployment: Document | None) -> Iterator[Finding]:
    name = pod["metadata"]["name"]
    events = evidence.events_of(name)
    known = troubles([pod])
    yield from (_worded(trouble, pod) for trouble in known)
    mount = mount_trouble(deployment, events) if deployment is not None else None
    failed = [str(event.get("message")) for event in events if event.get("reason") == "FailedMount"]
    if mount is not None:
        yield Finding("pods", mount.reason, mount.message, "make what it names; the pods then start by themselves")
    elif failed and not known and _waits(pod):
        yield Finding("pods", "MountFailed", f"Pod {name} waits for a volume: {failed[-1]}", "make what it names")
    if not known and mount is None:
        yield from _unready(evidence, pod, events)


def _worded(trouble: Trouble, pod: Document) -> Finding:
    """The trouble with what only the user may see added: the container's last line, the limit that was hit."""
    name, message = pod["metadata"]["name"], trouble.message
    remedy = _REMEDIES.get(trouble.reason, f"see kubectl describe pod {name}")
    for container in pod["status"].get("containerStatuses") or []:
        ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated") or {}
        if trouble.reason == "CrashLoopBackOff" and ended.get("exitCode"):
            line = last_line(ended.get("message") or "")
            message = message.partition("; see kubectl logs")[0] + (f'. Its last line: "{line}"' if line else "")
            remedy = f"mend what the container says: kubectl logs {name} -n {pod['metadata']['namespace']} --previous"
        if trouble.reason == "OOMKilled" and ended.get("reason") == "OOMKilled":
            limit = _memory_limit(pod, container["name"])
            message = message.removesuffix(": raise it") + (f" ({limit})" if limit else "")
    return Finding("pods", trouble.reason, message.rstrip("."), remedy)


def _memory_limit(pod: Document, container: str) -> str | None:
    for each in pod.get("spec", {}).get("containers") or []:
        if each["name"] == container:
            limit: str | None = (each.get("resources", {}).get("limits") or {}).get("memory")
            return limit
    return None


def _waits(pod: Document) -> bool:
    return not any("running" in each.get("state", {}) for each in pod["status"].get("containerStatuses") or [])


def _unready(evidence: Evidence, pod: Document, events: list[Document]) -> Iterator[Finding]:
    """Why a pod that runs takes no requests: by its own words if it could be asked, else by its probe's."""
    name = pod["metadata"]["name"]
    if condition(pod["status"], READY_CONDITION).get("status") == "True" or _waits(pod):
        return
    health = evidence.health.get(name)
    reason = (health.ready or {}).get("reason") if health is not None else None
    if reason in _NOT_READY:
        word, message, remedy = _NOT_READY[reason]
        yield Finding("pods", word, f"Pod {name} runs and takes no requests: {message}", remedy)
        return
    probes = [str(event.get("message")) for event in events if event.get("reason") == "Unhealthy"]
    if reason is not None or probes:
        said = masked(f"it says: {reason}" if reason is not None else probes[-1])
        message = f"Pod {name} runs and takes no requests: {said}"
        yield Finding("pods", "ReadinessFails", message, f"see why: kubectl logs {name} -n {evidence.namespace}")


def down(evidence: Evidence) -> Iterator[Finding]:
    """What the pods say is not reachable, of what they depend on."""
    told: set[str] = set()
    for pod, health in sorted(evidence.health.items()):
        for component, state in ((health.components or {}).get("components") or {}).items():
            if state.get("status") == "down" and component not in told:
                told.add(component)
                reason, remedy = _DOWN.get(component, ("ComponentDown", "see /health of the agent"))
                said = masked(str(state.get("detail", "")))
                kind = f" ({state['kind']})" if isinstance(state.get("kind"), str) else ""
                message = f"Pod {pod} says that {component} is down{kind}: {said}"
                yield Finding("pods", reason, message, remedy, note=True)


_DOWN = {
    "redis": ("RedisUnreachable", "check redis.url or the Secret in redis.secretName, and the network policies"),
    "model_api": ("ModelApiUnreachable", "check agent.baseUrl, the network's way out, and the provider's status"),
}
