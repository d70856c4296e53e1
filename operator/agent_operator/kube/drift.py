"""Detection of fields that other clients added to our objects, and the change of owner needed to remove them. Pure.

Server-side apply removes only the fields that its own field manager owns, so an entry that another client adds to a
list of ours would stay. Managed fields record the owner of each field (Kubernetes: "Server-Side Apply", "Field
management"). A field is foreign if another manager owns it and it is not desired. Defaults, and fields that admission
adds, have no owner.

Metadata is shared: labels and annotations of other clients stay. All other fields of an object are ours, except for
those allowed here.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_operator.kube.allowed import Path, Step, is_allowed
from agent_operator.kube.compare import MERGE_KEYS, has_all
from agent_operator.manifests.document import Document

FIELD_MANAGER = "portside-operator"
# Takes over `replicas` from us when an autoscaler is added, and keeps it until the autoscaler first sets it.
HANDOVER_MANAGER = "portside-operator-handover"

# Fields that are ours alone, by kind. A ServiceAccount has none: OpenShift adds Secrets to each.
_ROOTS = {
    "ConfigMap": ("data", "binaryData", "immutable"),
    **dict.fromkeys(
        (
            "Deployment",
            "Service",
            "HorizontalPodAutoscaler",
            "PodDisruptionBudget",
            "NetworkPolicy",
            "Ingress",
            "HTTPRoute",
            "ServiceMonitor",
            "ScaledObject",
        ),
        ("spec",),
    ),
}

# Maps and lists whose members are compared one by one, even if none of them is desired.
_BY_NAME = frozenset({"annotations", "labels", "metadata", "data", *MERGE_KEYS}) - {"ownerReferences"}
# Keys of list members that have a default: managed fields contain it, and a document may omit it.
_DEFAULT_OF_KEY = {"protocol": "TCP"}

_MAX_NAMED = 5
_MAX_PATH = 200


@dataclass(frozen=True)
class Foreign:
    """A field of one of our objects that is not desired; `manager` is its owner, None if no manager owns it."""

    path: Path
    manager: str | None

    def __str__(self) -> str:
        return described(self.path) + (f" (field manager {self.manager[:_MAX_PATH]})" if self.manager else "")


def foreign(document: Document, found: Document) -> list[Foreign]:
    """Return the fields of the object as `found` that are neither in the document nor allowed.

    `found` has its managed fields, whole or as reduced by `shares`. Without them, only list members and the keys of a
    ConfigMap are detected, because no default and no controller adds those.
    """
    kind: str = document["kind"]
    entries: list[Foreign] = []
    for share in found["metadata"].get("managedFields") or []:
        if _has_other_owner(share):
            paths: list[Path] = []
            _beyond(kind, _owned(kind, share.get("fieldsV1") or {}), document, (), paths)
            entries += [Foreign(path, str(share.get("manager") or "unknown")) for path in paths]
    for root in _ROOTS.get(kind, ()):
        if root in found:
            known = {each.path for each in entries}
            more = _extra(kind, document.get(root) or {}, found[root], (root,))
            entries += [Foreign(path, None) for path in more if not _is_under(path, known)]
    return entries


def needs_applying(document: Document, found: Document) -> bool:
    """Return whether the object is not what was applied last, or was changed since.

    The hash, an annotation of the document, detects fields that are no longer desired. The comparison detects changes
    by other clients, and the managed fields detect their additions. An object that is being deleted is not applied: it
    is created again afterwards.
    """
    if "deletionTimestamp" in found["metadata"]:
        return False
    return not has_all(document, found) or _lost_track(found) or bool(foreign(document, found))


def shares(kind: str, document: Document) -> list[Document]:
    """Return the managed fields to cache: our own entry, and what other managers own of the fields that are ours."""
    kept = []
    for share in document["metadata"].get("managedFields") or []:
        if _is_ours(share):
            kept.append({"manager": FIELD_MANAGER, "operation": "Apply"})
        elif _has_other_owner(share) and (fields := _owned(kind, share.get("fieldsV1") or {})):
            names = ("manager", "operation", "apiVersion")
            kept.append({name: share[name] for name in names if name in share} | {"fieldsV1": fields})
    return kept


def reclaimed(entries: Sequence[Document], document: Document) -> list[Document]:
    """Return the managed fields with us as the owner of everything foreign, so that the next apply removes it."""
    kind = document["kind"]
    ours = next((share for share in entries if _is_ours(share)), None)
    taken: Document = {}
    rest: list[Document] = []
    for share in entries:
        if share is ours:
            continue
        fields = share.get("fieldsV1") or {}
        # Fields may have other names in another version of the API.
        same = _has_other_owner(share) and share.get("apiVersion") == document["apiVersion"]
        part = _beyond(kind, _owned(kind, fields), document, (), []) if same else {}
        taken = union(taken, part)
        left = _without(fields, part)
        if left:
            rest.append({**share, "fieldsV1": left})
    if not taken:
        return list(entries)
    base = {"manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": document["apiVersion"]}
    own = ours or {**base, "fieldsType": "FieldsV1"}
    return [*rest, {**own, "fieldsV1": union(own.get("fieldsV1") or {}, taken)}]


def pruned(document: Document, paths: Iterable[Path]) -> Document:
    """Return a copy of the document without the fields at these paths."""
    copy: Document = json.loads(json.dumps(document))
    for path in paths:
        _remove(copy, path)
    return copy


def named(entries: Sequence[Foreign]) -> str:
    """Return the entries as text, with the first few by name."""
    words = ", ".join(map(str, entries[:_MAX_NAMED]))
    more = len(entries) - _MAX_NAMED
    return f"{words} and {more} more" if more > 0 else words


def described(path: Path) -> str:
    """Return the path as text, such as `spec.template.spec.containers[name=agent].env[name=A]`."""
    words = "".join(
        f".{step}" if isinstance(step, str) else f"[{','.join(f'{key}={value}' for key, value in step)}]"
        for step in path
    )
    return words.removeprefix(".")[:_MAX_PATH]


def union(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the union of two field sets (FieldsV1)."""
    both = dict(one)
    for key, value in other.items():
        both[key] = union(both[key], value) if key in both else dict(value)
    return both


def _is_ours(share: Mapping[str, Any]) -> bool:
    return (share.get("manager"), share.get("operation")) == (FIELD_MANAGER, "Apply") and not share.get("subresource")


def _has_other_owner(share: Mapping[str, Any]) -> bool:
    """Return whether another manager owns the share, apart from the status and the pod count that autoscalers set."""
    return not (_is_ours(share) or share.get("subresource") or share.get("manager") == HANDOVER_MANAGER)


def _lost_track(found: Document) -> bool:
    """Return whether the managed fields were cleared, which hides foreign fields. An apply fills them again."""
    entries = found["metadata"].get("managedFields")
    return entries is not None and not any(map(_is_ours, entries))


def _owned(kind: str, fields: Mapping[str, Any]) -> Document:
    return {f"f:{root}": fields[f"f:{root}"] for root in _ROOTS.get(kind, ()) if f"f:{root}" in fields}


def _beyond(kind: str, fields: Mapping[str, Any], wanted: Any, path: Path, paths: list[Path]) -> Document:
    """Return the part of a field set that is neither desired nor allowed, and add its paths to `paths`."""
    taken: Document = {}
    for name, inner in fields.items():
        if name == ".":
            continue
        step, below, is_wanted = _follow(name, wanted)
        here = (*path, step)
        if is_allowed(kind, here):
            continue
        if is_wanted or (isinstance(step, str) and step in _BY_NAME and inner):
            part = _beyond(kind, inner, below, here, paths)
            if part:
                all_of_it = not is_wanted and part.keys() == inner.keys() - {"."}
                taken[name] = dict(inner) if all_of_it else part
        else:
            paths.append(here)
            taken[name] = dict(inner)
    return taken


def _follow(name: str, wanted: Any) -> tuple[Step, Any, bool]:
    """Return the step that a name of a field set means, the value desired there, and whether there is one."""
    form, _, rest = name.partition(":")
    if form == "f":
        there = isinstance(wanted, dict) and rest in wanted
        return rest, wanted[rest] if there else None, there
    if form == "k":
        keys = json.loads(rest)
        members = [each for each in wanted if isinstance(each, dict)] if isinstance(wanted, list) else []
        found = next((each for each in members if _has_keys(each, keys)), None)
        return tuple(sorted(keys.items())), found, found is not None
    if form == "v":
        value = json.loads(rest)
        return (("", value),), None, isinstance(wanted, list) and value in wanted
    return name, None, True


def _has_keys(member: Mapping[str, Any], keys: Mapping[str, Any]) -> bool:
    return all(member.get(key, _DEFAULT_OF_KEY.get(key)) == value for key, value in keys.items())


def _extra(kind: str, wanted: Any, found: Any, path: Path) -> Iterator[Path]:
    """Yield the paths to members of lists and maps that are identified by name and not desired."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key, value in found.items():
            here = (*path, key)
            if key in wanted:
                yield from _extra(kind, wanted[key], value, here)
            elif kind == "ConfigMap":
                yield here
            elif key in MERGE_KEYS and isinstance(value, list):
                yield from _extra(kind, [], value, here)
    elif isinstance(wanted, list) and isinstance(found, list) and isinstance(path[-1], str):
        yield from _extra_members(kind, wanted, found, path)


def _extra_members(kind: str, wanted: list[Any], found: list[Any], path: Path) -> Iterator[Path]:
    keys = MERGE_KEYS.get(str(path[-1]))
    if keys is None or not all(isinstance(each, dict) and each.keys() >= set(keys) for each in wanted):
        return
    by_key = {tuple(each[key] for key in keys): each for each in wanted}
    for member in found:
        if not isinstance(member, dict):
            continue
        here = (*path, tuple((key, member.get(key)) for key in keys))
        other = by_key.get(tuple(member.get(key) for key in keys))
        if other is not None:
            yield from _extra(kind, other, member, here)
        elif not is_allowed(kind, here):
            yield here


def _is_under(path: Path, others: Iterable[Path]) -> bool:
    """Return whether a path equals or is below one of the others. The two sides identify ports by different keys."""
    return any(path[: len(other)] == other or ("ports" in path and path[:-1] == other[:-1]) for other in others)


def _without(fields: Mapping[str, Any], part: Mapping[str, Any]) -> Document:
    """Return a field set without a part of it."""
    left: Document = {}
    for name, inner in fields.items():
        if name not in part:
            left[name] = inner
        elif inner != part[name] and (rest := _without(inner, part[name])):
            left[name] = rest
    return left


def _remove(document: Any, path: Path) -> None:
    for step in path[:-1]:
        document = _member(document, step)
    last = path[-1]
    if isinstance(document, dict) and isinstance(last, str):
        document.pop(last, None)
    elif isinstance(document, list) and (member := _member(document, last)) is not None:
        document.remove(member)


def _member(document: Any, step: Step) -> Any:
    if isinstance(step, str):
        return document.get(step) if isinstance(document, dict) else None
    members = document if isinstance(document, list) else []
    return next((each for each in members if isinstance(each, dict) and _has_keys(each, dict(step))), None)
