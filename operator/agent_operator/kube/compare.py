"""Comparison: whether an object in the cluster has every desired value. Additions by other clients do not count."""

import hashlib
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from agent_operator.manifests.document import Document

# Lists that server-side apply merges by keys (x-kubernetes-list-map-keys of the core API): other clients may add
# members. For a Service's ports, the name works as well as the actual keys, because all of ours have one. All other
# lists, and lists whose members lack a key, are compared as whole values.
MERGE_KEYS = {
    "containers": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "ports": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
# Maps of quantities, and single quantities: the API server stores them in its own form ("1000" as "1k").
QUANTITIES = {"requests", "limits"}
QUANTITY = {"averageValue", "divisor", "sizeLimit"}
# The API server omits an empty field (Go's `omitempty`), which is equivalent to having it, except for these fields:
# unset, they mean something else than zero, and the object shows no default for them.
NOTHING = ("", 0, None)
NOT_NOTHING_AT_ZERO = {
    *("allowPrivilegeEscalation", "automountServiceAccountToken", "fsGroup", "hostUsers", "runAsGroup", "runAsNonRoot"),
    *("runAsUser", "maxUnavailable", "minAvailable", "mode", "stabilizationWindowSeconds", "storageClassName"),
    "tolerationSeconds",
}
# Maps with keys chosen by the user: a key is present or absent, whatever its value.
MAPS = {"annotations", "data", "labels", "matchLabels", "nodeSelector", "stringData"} | QUANTITIES

_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_QUANTITY = re.compile(r"([0-9.]+)(?:([KMGTPE])i|([numkMGTPE]?)|[eE]([+-]?[0-9]+))")


def fingerprint(document: Document) -> str:
    """Return the SHA-256, in hexadecimal, of the document in canonical form."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def has_all(wanted: Any, found: Any, field: str = "") -> bool:
    """Return whether everything in `wanted` is in `found` with the same value, as the API server interprets it.

    An empty, zero or false value in `wanted` may be missing in `found` where that means the same: the API server keeps
    few such values.
    """
    if isinstance(wanted, dict):
        equal: Callable[[Any, Any, str], bool] = _same_quantity if field in QUANTITIES else has_all
        return isinstance(found, dict) and all(
            equal(value, found[key], key) if key in found else _is_left_out(value, key, field)
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(found, list) and _list_has_all(wanted, found, MERGE_KEYS.get(field))
    return bool(wanted == found) or (field in QUANTITY and _same_quantity(wanted, found, field))


def _is_left_out(value: Any, key: str, field: str) -> bool:
    """Return whether a missing `key` in the map `field` is equivalent to the value wanted for it."""
    if value in ({}, []):
        return True
    return value in NOTHING and key not in NOT_NOTHING_AT_ZERO and field not in MAPS


def _list_has_all(wanted: list[Any], found: list[Any], keys: tuple[str, ...] | None) -> bool:
    if keys is None or not all(isinstance(item, dict) and item.keys() >= set(keys) for item in wanted):
        return len(wanted) == len(found) and all(map(has_all, wanted, found))
    by_key = {tuple(item.get(key) for key in keys): item for item in found}
    pairs = ((item, by_key.get(tuple(item[key] for key in keys))) for item in wanted)
    return all(other is not None and has_all(item, other) for item, other in pairs)


def _same_quantity(wanted: Any, found: Any, _: str) -> bool:
    if wanted == found:  # also text that is not a quantity, which only the API server refuses
        return True
    try:
        return quantity(str(wanted)) == quantity(str(found))
    except ValueError:
        return False


def quantity(text: str) -> Decimal:
    """Return the value of a Kubernetes quantity: "1500m" is 1.5, "1Ki" is 1024. Raises ValueError."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text} is not a quantity")
    number, binary, suffix, exponent = match.groups()
    if binary:
        return Decimal(number) * Decimal(1024) ** ("KMGTPE".index(binary) + 1)
    return Decimal(number).scaleb(int(exponent) if exponent else _SUFFIXES[suffix or ""])
