"""Problems that keep a pod from serving, with messages that stay the same while the cause does."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from agent_operator.manifests.document import Document
from agent_operator.manifests.names import CONTAINER

IMAGE_REASONS = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
CONFIG_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}

# The kubelet reports the cause sometimes alone and sometimes with this prefix; the cause itself stays the same.
_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*"(: ErrImagePull: )?')

# The service's exit code for wrong settings (DESIGN: "A wrong value ends the start with … exit code 2").
SETTINGS_WRONG = 2
# With that exit code, each line of its output starts with the name of the setting.
_SETTING = re.compile(r"(Error: )?[A-Z][A-Z0-9_]*: ")
# "Not executable", "not found", and the runtime's code for a program that it could not start.
NO_PROGRAM = {126, 127, 128}


class Ending(NamedTuple):
    """What an exit code indicates: the cause for a message, with a leading colon, and whether the image may be wrong.

    The cause is empty if the code indicates none.
    """

    cause: str = ""
    by_image: bool = False


_ENDINGS = {
    137: Ending(": it was killed, by its probes if it did not answer them in time"),
    139: Ending(": its program crashed"),
    143: Ending(": it was asked to stop, by its probes if it did not answer them in time"),
    255: Ending(": its image may be for another processor architecture", by_image=True),
}

# What a message ends with. Doctor removes it, because it shows the log's last line and the limit itself.
_SEE_LOG = "; see kubectl logs {pod} --previous"
_RAISE_LIMIT = ": raise it"


@dataclass(frozen=True)
class Problem:
    """A problem that a user must know about: a machine-readable reason and a human-readable message."""

    reason: str
    message: str


def pod_problems(pods: Iterable[Document]) -> list[Problem]:
    """Return the problems of pods that are meant to run, each once however many pods have it."""
    found: dict[str, Problem] = {}
    for pod in sorted(pods, key=_name):
        if is_meant_to_run(pod):
            for problem in _of_pod(pod):
                found.setdefault(problem.reason, problem)
    return list(found.values())


def is_meant_to_run(pod: Document) -> bool:
    """Return whether the pod has neither ended nor been marked for deletion."""
    return "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") not in {"Failed", "Succeeded"}


def _name(pod: Document) -> str:
    name: str = pod["metadata"]["name"]
    return name


def _of_pod(pod: Document) -> Iterator[Problem]:
    status = pod["status"]
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            yield Problem("Unschedulable", f"Pod {_name(pod)} fits no node: {condition.get('message', '')}")
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        problem = _of_container(_name(pod), container)
        if problem is not None:
            yield problem


def _of_container(pod: str, container: Document) -> Problem | None:
    if container.get("ready"):
        return None
    waiting = container.get("state", {}).get("waiting") or {}
    reason = waiting.get("reason", "")
    message = waiting.get("message", "")
    where = f"container {container['name']} of pod {pod}"
    if reason in IMAGE_REASONS:
        cause = _BACK_OFF.sub("", message) or "check its name and tag, and image.pullPolicy or imagePullSecrets"
        return Problem("ImagePullBackOff", f"Cannot pull image {container.get('image', '')} for {where}: {cause}")
    if reason in CONFIG_REASONS:
        return Problem(reason, f"Cannot start {where}: {message}")
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated") or {}
    # A container that ended with exit code 0 and runs again may have been restarted with its node.
    if not ended or (ended.get("exitCode") == 0 and "running" in container.get("state", {})):
        return None
    return _of_ended(pod, where, container["name"], ended)


def ending(container: str, ended: Document) -> Ending:
    """Return what the exit code of a container indicates.

    Sources: bash, "Exit Status"; runc, for 128; the service itself, for 2.
    """
    code = ended["exitCode"]
    if code == SETTINGS_WRONG and container == CONTAINER:
        lines = str(ended.get("message") or "").strip().splitlines()
        if not lines or _SETTING.match(lines[-1]) is not None:
            return Ending(": its settings are wrong")
        return Ending(": its settings are wrong, or it is not the image of an agent", by_image=True)
    if code in NO_PROGRAM or ended.get("reason") in {"StartError", "ContainerCannotRun"}:
        return Ending(": the image lacks the program to run, so it is not the image of an agent", by_image=True)
    if code == 0:
        return Ending(": it should keep running, so this may not be the image of an agent", by_image=True)
    return _ENDINGS.get(code, Ending())


def without_advice(problem: Problem, pod: str) -> str:
    """Return the message of a problem of a container that ended, without the advice at its end."""
    return problem.message.removesuffix(_SEE_LOG.format(pod=pod)).removesuffix(_RAISE_LIMIT)


def _of_ended(pod: str, where: str, container: str, ended: Document) -> Problem:
    """Return the problem of a container that ended.

    Its termination message is left out: it is part of the log, and may contain confidential data.
    """
    if ended.get("reason") == "OOMKilled":
        return Problem(
            "OOMKilled",
            f"The {where} used more memory than resources.limits.memory allows, and was killed{_RAISE_LIMIT}",
        )
    return Problem(
        "CrashLoopBackOff",
        f"The {where} ended with exit code {ended['exitCode']} ({ended.get('reason', 'Error')})"
        f"{ending(container, ended).cause}{_SEE_LOG.format(pod=pod)}",
    )
