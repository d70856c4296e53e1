"""What keeps a pod from serving, in words that stay the same while the cause does."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent_operator.manifests.form import Document

IMAGE_REASONS = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
CONFIG_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}

# The kubelet tells the cause now alone, now wrapped in this; the cause itself stays the same.
_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*"(: ErrImagePull: )?')

# As the service ends when its settings are wrong (DESIGN: "A wrong value ends the start with … exit code 2").
SETTINGS_WRONG = 2


@dataclass(frozen=True)
class Trouble:
    """Something that a user must know: a reason for programs, and a message for people."""

    reason: str
    message: str


def troubles(pods: Iterable[Document]) -> list[Trouble]:
    """The troubles of pods that are meant to run, each once however many pods have it."""
    found: dict[str, Trouble] = {}
    for pod in sorted(pods, key=_name):
        if is_meant_to_run(pod):
            for trouble in _of_pod(pod):
                found.setdefault(trouble.reason, trouble)
    return list(found.values())


def is_meant_to_run(pod: Document) -> bool:
    """Whether the pod has neither ended nor been told to."""
    return "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") not in {"Failed", "Succeeded"}


def _name(pod: Document) -> str:
    name: str = pod["metadata"]["name"]
    return name


def _of_pod(pod: Document) -> Iterator[Trouble]:
    status = pod["status"]
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            yield Trouble("Unschedulable", f"Pod {_name(pod)} fits no node: {condition.get('message', '')}")
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        trouble = _of_container(_name(pod), container)
        if trouble is not None:
            yield trouble


def _of_container(pod: str, container: Document) -> Trouble | None:
    if container.get("ready"):
        return None
    waiting = container.get("state", {}).get("waiting") or {}
    reason = waiting.get("reason", "")
    said = waiting.get("message", "")
    where = f"container {container['name']} of pod {pod}"
    if reason in IMAGE_REASONS:
        cause = _BACK_OFF.sub("", said) or "check its name and tag, and image.pullPolicy or imagePullSecrets"
        return Trouble("ImagePullBackOff", f"Cannot pull image {container.get('image', '')} for {where}: {cause}")
    if reason in CONFIG_REASONS:
        return Trouble(reason, f"Cannot start {where}: {said}")
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated") or {}
    return _of_ended(pod, where, ended) if ended.get("exitCode") else None


def _of_ended(pod: str, where: str, ended: Document) -> Trouble:
    """What a container's end says. Its last words are not told: they are its log, and may hold what nobody may see."""
    if ended.get("reason") == "OOMKilled":
        return Trouble(
            "OOMKilled", f"The {where} used more memory than resources.limits.memory allows, and was killed: raise it"
        )
    cause = ": its settings are wrong" if ended["exitCode"] == SETTINGS_WRONG else ""
    return Trouble(
        "CrashLoopBackOff",
        f"The {where} ended with exit code {ended['exitCode']} ({ended.get('reason', 'Error')}){cause}; "
        f"see kubectl logs {pod} --previous",
    )
