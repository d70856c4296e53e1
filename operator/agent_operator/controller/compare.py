"""Whether an object in the cluster has all that we want of it; what others added is theirs."""

import hashlib
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from agent_operator.manifests.form import Document

# Lists that server-side apply merges by a key (x-kubernetes-list-map-keys of the core API): others may add members.
# Of ports, names serve as well as their true keys, as all of ours have one. All other lists are whole values.
MERGE_KEYS = {
    "containers": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "ownerReferences": "uid",
    "ports": "name",
    "topologySpreadConstraints": "topologyKey",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
QUANTITIES = {"requests", "limits"}

_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_QUANTITY = re.compile(r"([0-9.]+)(?:([KMGTPE])i|([numkMGTPE]?)|[eE]([+-]?[0-9]+))")


def fingerprint(document: Document) -> str:
    """SHA-256, in hexadecimal, of the document in one canonical form."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def has_all(wanted: Any, found: Any, field: str = "") -> bool:
    """Whether everything in `wanted` is in `found` with the same value, as the API server means it."""
    if isinstance(wanted, dict):
        equal: Callable[[Any, Any, str], bool] = _same_quantity if field in QUANTITIES else has_all
        return isinstance(found, dict) and all(key in found and equal(wanted[key], found[key], key) for key in wanted)
    if isinstance(wanted, list):
        return isinstance(found, list) and _list_has_all(wanted, found, field)
    return bool(wanted == found)


def _list_has_all(wanted: list[Any], found: list[Any], field: str) -> bool:
    merge_key = MERGE_KEYS.get(field)
    if merge_key is None:
        return len(wanted) == len(found) and all(map(has_all, wanted, found))
    by_key = {item.get(merge_key): item for item in found}
    return all(item[merge_key] in by_key and has_all(item, by_key[item[merge_key]]) for item in wanted)


def _same_quantity(wanted: Any, found: Any, _: str) -> bool:
    return quantity(str(wanted)) == quantity(str(found))


def quantity(text: str) -> Decimal:
    """The amount that a Kubernetes quantity stands for: "1500m" is 1.5, "1Ki" is 1024. Raises ValueError."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text} is no quantity")
    number, binary, suffix, exponent = match.groups()
    if binary:
        return Decimal(number) * Decimal(1024) ** ("KMGTPE".index(binary) + 1)
    return Decimal(number).scaleb(int(exponent) if exponent else _SUFFIXES[suffix or ""])
