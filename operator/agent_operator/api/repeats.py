"""Duplicate entries in lists whose entries must be unique: the API server rejects them (KEP-555, "listType")."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agent_operator.api.schema import Schema, structural
from agent_operator.api.spec import AgentSpec

LIST_TYPE, MAP_KEYS = "x-kubernetes-list-type", "x-kubernetes-list-map-keys"


def repeats(spec: Mapping[str, Any], root: str = "spec") -> Iterator[tuple[str, str]]:
    """Yield the path and a sentence for each entry of a spec that repeats an earlier entry of its list.

    Values of the wrong type are skipped: the validation of types rejects them.
    """
    yield from _within(spec, structural(AgentSpec), root)


def _within(value: Any, schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        properties, further = schema.get("properties", {}), schema.get("additionalProperties")
        for name, child in value.items():
            inner = properties.get(name, further)
            if isinstance(inner, dict):
                yield from _within(child, inner, f"{path}.{name}")
    elif isinstance(value, list) and "items" in schema:
        yield from _of_list(value, schema, path)
        for index, child in enumerate(value):
            yield from _within(child, schema["items"], f"{path}[{index}]")


def _of_list(value: list[Any], schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    if schema.get(LIST_TYPE) not in {"map", "set"}:
        return
    keys = schema.get(MAP_KEYS, [])
    what = f"has the same {' and '.join(keys)}" if keys else "is the same"
    seen: set[str] = set()
    for index, entry in enumerate(value):
        identity = json.dumps(_identity(entry, keys, schema["items"]), sort_keys=True)
        if identity in seen:
            yield f"{path}[{index}]", f"{what} as an earlier entry: remove or rename one of them"
        seen.add(identity)


def _identity(entry: Any, keys: list[str], items: Schema) -> Any:
    """Return what identifies the entry. Defaults count, because the API server applies them first."""
    if not keys or not isinstance(entry, Mapping):
        return entry
    properties = items.get("properties", {})
    return [entry.get(key, properties.get(key, {}).get("default")) for key in keys]
