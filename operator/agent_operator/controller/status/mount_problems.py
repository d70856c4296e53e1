"""Why a volume of Portside's own cannot be mounted. Only the kubelet reports which part is missing, in Events."""

import re
from collections.abc import Iterable

from agent_operator.api.runtime import CODE_VOLUME, PROMPT_VOLUME
from agent_operator.api.tools import PREFIX as TOOL_PREFIX
from agent_operator.controller.status.pod_problems import Problem, is_meant_to_run
from agent_operator.manifests.document import Document
from agent_operator.manifests.names import SECRETS_VOLUME
from agent_operator.manifests.tools import SECRETS_VOLUME as TOOL_SECRETS_VOLUME

# kubelet, pkg/volume/projected, and client-go's "not found" (its messages are the same since Kubernetes 1.9).
_MISSING = re.compile(r'(?P<kind>secret|configmap) "(?P<name>[^"]+)" not found', re.IGNORECASE)
_NO_KEY = re.compile(r"references non-existent (?P<kind>secret|config) key: (?P<key>[-._a-zA-Z0-9]+)")

# The volumes that depend on an object that the spec names, with what each is in a message.
_VOLUMES = {
    SECRETS_VOLUME: "folder of secrets",
    CODE_VOLUME: "file of the runtime",
    PROMPT_VOLUME: "system prompt of the runtime",
    TOOL_SECRETS_VOLUME: "folder of the tools' secrets",
}
# The file of a tool, in the volume that its entry has.
_TOOL_CODE = re.compile(rf"{TOOL_PREFIX}(?P<tool>.+)-code")
_VOLUME = re.compile(r'for volume "(?P<name>[^"]+)"')

_KINDS = {"secret": "Secret", "configmap": "ConfigMap", "config": "ConfigMap"}


def waits_for_mounts(pods: Iterable[Document]) -> str | None:
    """Return the name of a pod whose containers are still being created, or None.

    Containers stay in this state while a Secret is missing.
    """
    names = (pod["metadata"]["name"] for pod in pods if is_meant_to_run(pod) and _is_being_created(pod))
    return min(names, default=None)


def mount_problem(deployment: Document, events: Iterable[Document]) -> Problem | None:
    """Return the mount problem of a volume of ours from the pod's Events, naming what is missing; None if none."""
    messages = [
        str(event.get("message", "")) for event in sorted(events, key=_time) if event.get("reason") == "FailedMount"
    ]
    found = [(match["name"], message) for message in messages if (match := _VOLUME.search(message))]
    ours = [(title, message) for volume, message in found if (title := _title(volume)) is not None]
    return _named(deployment, *ours[-1]) if ours else None


def _title(volume: str) -> str | None:
    """Return what a volume of ours is in a message, or None for one that is not ours."""
    code = _TOOL_CODE.fullmatch(volume)
    return f"file of the tool {code['tool']}" if code is not None else _VOLUMES.get(volume)


def _named(deployment: Document, volume: str, message: str) -> Problem:
    missing = _MISSING.search(message)
    if missing:
        kind, name = _KINDS[missing["kind"].lower()], missing["name"].rpartition("/")[2]
        return Problem(f"{kind}Missing", f"{kind} {name} does not exist, and the pods wait for it: create it")
    no_key = _NO_KEY.search(message)
    if no_key:
        kind, key = _KINDS[no_key["kind"]], no_key["key"]
        holder = _holder(deployment, kind, key) or "that the spec names"
        return Problem(
            f"{kind}KeyMissing", f"{kind} {holder} has no key {key}, and the pods wait for it: add it, or name another"
        )
    return Problem("MountFailed", f"The {volume} cannot be mounted: {message}")


def _holder(deployment: Document, kind: str, key: str) -> str | None:
    """Return the name of the object that should have this key."""
    field = "secret" if kind == "Secret" else "configMap"
    for volume in deployment["spec"]["template"]["spec"].get("volumes") or []:
        for source in [volume, *((volume.get("projected") or {}).get("sources") or [])]:
            if field in source and any(item["key"] == key for item in source[field].get("items") or []):
                name: str = source[field].get("name") or source[field]["secretName"]
                return name
    return None


def _is_being_created(pod: Document) -> bool:
    status = pod["status"]
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    waiting = [(each.get("state", {}).get("waiting") or {}).get("reason") for each in containers]
    # All volumes are mounted before the first container starts, so Events of failed mounts are outdated by then.
    return bool(waiting) and set(waiting) <= {"ContainerCreating", "PodInitializing"}


def _time(event: Document) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")
