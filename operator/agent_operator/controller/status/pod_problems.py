"""Problems that keep a pod from serving, with messages that stay the same while the cause does."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from agent_operator.api.runtime import CONTAINER as RUNTIME
from agent_operator.manifests.document import Document
from agent_operator.manifests.names import CONTAINER

IMAGE_REASONS = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
AS_A_USER = (
    "set runtime.securityContext.runAsUser, beside the other fields of its default, to the number of a user other than "
    "root, or name that number with USER in the image"
)
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

_ENDINGS_OF_RUNTIME = {
    137: Ending(": it was killed, by its probes if it did not respond at runtime.healthPath in time"),
    143: Ending(": it was asked to stop, by its probes if it did not respond at runtime.healthPath in time"),
}
_PROGRAM = ": the image lacks the program to run, or it cannot run as the container's user"

# What a message ends with. Doctor removes it, because it shows the log's last line and the limit itself.
_SEE_LOG = "; see kubectl logs {pod} -c {container} --previous"
_RAISE_LIMIT = ": raise it"

# Of the kubelet: the image names no user, root, or a user whose number it cannot know.
_ROOT = re.compile(r"runAsNonRoot|non-root")


@dataclass(frozen=True)
class Problem:
    """A problem that a user must know about: a machine-readable reason and a human-readable message.

    `container` is the container that has the problem, empty if it is not that of one container.
    """

    reason: str
    message: str
    container: str = ""


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
    name = container["name"]
    where = described(name, pod)
    if reason in IMAGE_REASONS:
        cause = _BACK_OFF.sub("", message) or f"check its name and tag, and {_pull_policy(name)} or imagePullSecrets"
        text = f"Cannot pull image {container.get('image', '')} for {where}: {cause}"
        return Problem("ImagePullBackOff", text, name)
    if reason in CONFIG_REASONS:
        advice = f"; {AS_A_USER}" if name == RUNTIME and _ROOT.search(message) else ""
        return Problem(reason, f"Cannot start {where}: {message}{advice}", name)
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated") or {}
    # A container that ended with exit code 0 and runs again may have been restarted with its node.
    if not ended or (ended.get("exitCode") == 0 and "running" in container.get("state", {})):
        return None
    return _of_ended(pod, where, name, ended)


def described(container: str, pod: str) -> str:
    """Return the name of a container in a message, in which the runtime must not be taken for the node's."""
    name = f'"{container}"' if container == RUNTIME else container
    return f"container {name} of pod {pod}"


def _pull_policy(container: str) -> str:
    return "runtime.imagePullPolicy" if container == RUNTIME else "image.pullPolicy"


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
    if container == RUNTIME:
        return _ending_of_runtime(ended)
    if code in NO_PROGRAM or ended.get("reason") in {"StartError", "ContainerCannotRun"}:
        return Ending(": the image lacks the program to run, so it is not the image of an agent", by_image=True)
    if code == 0:
        return Ending(": it should keep running, so this may not be the image of an agent", by_image=True)
    return _ENDINGS.get(code, Ending())


def _ending_of_runtime(ended: Document) -> Ending:
    code = ended["exitCode"]
    if code in NO_PROGRAM or ended.get("reason") in {"StartError", "ContainerCannotRun"}:
        return Ending(f"{_PROGRAM}: check runtime.image and runtime.command", by_image=True)
    if code == 0:
        return Ending(": it should keep running, and listen on the port in PORT")
    return _ENDINGS_OF_RUNTIME.get(code, _ENDINGS.get(code, Ending()))


def without_advice(problem: Problem, pod: str) -> str:
    """Return the message of a problem of a container, without the advice at its end."""
    see_log = _SEE_LOG.format(pod=pod, container=problem.container)
    return problem.message.removesuffix(see_log).removesuffix(_RAISE_LIMIT).removesuffix(f"; {AS_A_USER}")


def _of_ended(pod: str, where: str, container: str, ended: Document) -> Problem:
    """Return the problem of a container that ended.

    Its termination message is left out: it is part of the log, and may contain confidential data.
    """
    if ended.get("reason") == "OOMKilled":
        limit = "runtime.resources.limits.memory" if container == RUNTIME else "resources.limits.memory"
        text = f"The {where} used more memory than {limit} allows, and was killed{_RAISE_LIMIT}"
        return Problem("OOMKilled", text, container)
    return Problem(
        "CrashLoopBackOff",
        f"The {where} ended with exit code {ended['exitCode']} ({ended.get('reason', 'Error')})"
        f"{ending(container, ended).cause}{_SEE_LOG.format(pod=pod, container=container)}",
        container,
    )
