"""Makes a draft valid: what our own validation rejects is reported and left out, one fault at a time."""

import re
from collections.abc import Iterator
from typing import Any

from agent_operator.api.agent import MAX_NAME, NAME_RULE
from agent_operator.api.validation import Fault, InvalidAgentError, parse
from agent_operator.manifests.document import Document
from agent_operator.tools.errors import InputError
from agent_operator.tools.importing.draft import Draft, Note, objects_of, text_of
from agent_operator.tools.metadata import metadata_faults

# A step into an object (a name) or a list (a position).
Keys = list[str | int]

# Each round removes at least one field. A source with more faults than this is not one of a running workload.
ROUNDS = 500

_MODEL_KEY = re.compile(r"sk-ant-[A-Za-z0-9_-]{8,}")
_OF_PODS = ("sidecars", "initContainers")


def fitted(draft: Draft) -> Document:
    """Return the draft as an AgentDeployment that is valid. Removes and reports whatever is not.

    Raises InputError if what is left would not be the same agent.
    """
    had_runtime = "runtime" in draft.spec
    _name(draft)
    removed: dict[str, Note] = {}
    for _ in range(ROUNDS):
        fault = next(_faults(draft), None)
        if fault is None:
            break
        keys = _whole(draft.spec, locate(draft.spec, fault.field.removeprefix("spec")), fault)
        if not keys or keys in (["runtime"], ["runtime", "image"]):
            raise InputError(f"{draft.title}: cannot be converted: {source_of(draft, keys)}: {fault.message}")
        _remove(draft, keys, fault.message, removed)
    else:
        raise InputError(f"{draft.title}: cannot be converted: it has more than {ROUNDS} faults")
    if had_runtime and "image" not in draft.spec.get("runtime", {}):
        raise InputError(f"{draft.title}: cannot be converted: its container has no image")
    draft.notes += removed.values()
    for owner in (draft.spec, draft.spec.get("runtime", {})):
        for field in [field for field, value in owner.items() if value in ({}, [])]:
            del owner[field]
    return draft.document()


def _name(draft: Draft) -> None:
    if NAME_RULE.holds(draft.name):
        return
    name = re.sub(r"[^-a-z0-9]", "-", draft.name.lower())
    name = name if name[:1].isalpha() else f"agent-{name}"
    draft.note("metadata.name", f"{NAME_RULE.message}, or pass --name")
    draft.name = name[:MAX_NAME].strip("-")


def _faults(draft: Draft) -> Iterator[Fault]:
    """Yield what has to be removed: keys of the model API first, so that no message or output contains one."""
    yield from (
        Fault(
            f"spec{_path(draft.spec, keys)}",
            "contains a key of the model API, which is not printed: put it into a Secret, and refer to that",
        )
        for keys, text in _texts(draft.spec)
        if _MODEL_KEY.search(text)
    )
    yield from _dangling(draft.spec)
    try:
        parse(draft.document())
    except InvalidAgentError as error:
        yield from error.faults
    faults = metadata_faults(draft.document())
    yield from (each for each in faults if each.field.startswith("spec"))


def _texts(value: Any, keys: tuple[str | int, ...] = ()) -> Iterator[tuple[Keys, str]]:
    if isinstance(value, str):
        yield list(keys), value
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from _texts(child, (*keys, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _texts(child, (*keys, index))


def _dangling(spec: dict[str, Any]) -> Iterator[Fault]:
    """Yield the mounts of volumes that are not carried over, which the API server would refuse."""
    volumes = {text_of(each.get("name")) for each in objects_of(spec.get("extraVolumes"))}
    places = [("spec.runtime", spec.get("runtime") or {}), ("spec", {"volumeMounts": spec.get("extraVolumeMounts")})]
    places += [
        (f"spec.{field}[{index}]", each)
        for field in _OF_PODS
        for index, each in enumerate(spec.get(field) or [])
        if isinstance(each, dict)
    ]
    for path, container in places:
        field = "extraVolumeMounts" if path == "spec" else "volumeMounts"
        for index, mount in enumerate(container.get("volumeMounts") or []):
            if isinstance(mount, dict) and text_of(mount.get("name")) not in volumes:
                yield Fault(f"{path}.{field}[{index}]", "its volume is not carried over, so neither is this mount")


def locate(value: Any, path: str) -> Keys:
    """Return the steps to the value at a path such as `.runtime.env[0]`, or to its innermost parent that exists.

    Names may contain dots, as those of labels do; the longest name that fits is taken.
    """
    keys: Keys = []
    while path:
        step = _step(value, path)
        if step is None:
            break
        key, length = step
        keys.append(key)
        value, path = value[key], path[length:]
    return keys


def _step(value: Any, path: str) -> tuple[str | int, int] | None:
    if isinstance(value, list):
        match = re.match(r"\[(\d+)\]", path)
        return (int(match[1]), match.end()) if match and int(match[1]) < len(value) else None
    if isinstance(value, dict):
        fits = [key for key in value if re.match(rf"\.{re.escape(key)}(?=[.\[]|$)", path)]
        return max(((key, len(key) + 1) for key in fits), key=lambda each: each[1], default=None)
    return None


def _whole(spec: dict[str, Any], keys: Keys, fault: Fault) -> Keys:
    """Return the steps to what has to go with a value: the variable, the mount, the list of arguments, the tool.

    Without one of its parts it would mean something else.
    """
    inside: Any = spec
    for place, key in enumerate(keys):
        inside = inside[key]
        listed = place > 0 and isinstance(key, int)
        if place == 1 and keys[0] == "tools":
            # An entry without its allow would allow all tools.
            return keys[: place + 1]
        if listed and keys[place - 1] in ("env", "extraEnv", "volumeMounts", "extraVolumeMounts", "tolerations"):
            # An unknown field is left out by itself: older and newer API servers differ in those.
            return keys if "unknown field" in fault.message else keys[: place + 1]
        if listed and isinstance(inside, str):
            return keys[:place]
    return keys


def _remove(draft: Draft, keys: Keys, message: str, removed: dict[str, Note]) -> None:
    path, source = _path(draft.spec, keys), source_of(draft, keys)
    inside: Any = draft.spec
    for key in keys[:-1]:
        inside = inside[key]
    del inside[keys[-1]]
    # What was wrong inside explains why its parent is left out.
    within = [each for each in removed if each.startswith((f"{path}.", f"{path}["))]
    messages = [removed.pop(each).message for each in within]
    message = "an AgentDeployment has no such field" if message.startswith("unknown field") else message
    removed[f"{path}#{len(removed)}"] = Note("lost", source, messages[0] if messages else message)


def source_of(draft: Draft, keys: Keys) -> str:
    """Return the path in the source object that the value at these steps of the spec comes from."""
    for length in range(len(keys), 0, -1):
        target = ".".join(map(str, keys[:length]))
        if target in draft.sources:
            return draft.sources[target] + _path(draft.spec, keys, named=True, skip=length)
    return f"spec{_path(draft.spec, keys, named=True)} of the AgentDeployment"


def _path(value: Any, keys: Keys, *, named: bool = False, skip: int = 0) -> str:
    """Return the steps, without the first `skip`, as a path.

    An entry of a list has its position, or its name where `named`: positions in the source may differ.
    """
    path = ""
    for place, key in enumerate(keys):
        value = value[key]
        name = value.get("name") if named and isinstance(value, dict) else None
        path += "" if place < skip else f"[{name or key}]" if isinstance(key, int) else f".{key}"
    return path
