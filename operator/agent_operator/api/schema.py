"""JSON Schemas of the models: the structural form for a CRD, and plain draft-07 for the chart's values."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from agent_operator.api.base import Model

Schema = dict[str, Any]

INT_OR_STRING = "x-kubernetes-int-or-string"
VERBATIM = "x-kubernetes-preserve-unknown-fields"
# The largest int32: the maximum of a field that has no other bound.
_INT32 = 2**31 - 1


@cache
def structural(model: type[Model]) -> Schema:
    """Return the model as a structural schema (Kubernetes: "Specifying a structural schema").

    It contains no references, unions or closed objects, because the API server prunes unknown fields. All callers share
    the result, so none may change it.
    """
    return _map_objects(_inlined(model), _structural_node)


def draft_07(model: type[Model]) -> Schema:
    """Return the model as JSON Schema draft-07 with closed objects, without keywords that only the API server knows."""
    return _map_objects(_inlined(model), _plain_node)


def explained(schema: Schema) -> Schema:
    """Return the schema with range and default in each description: `kubectl explain` does not show them otherwise."""
    return _map_objects(schema, _explained_node)


def _explained_node(node: Schema) -> Schema:
    if "description" not in node:
        return node
    facts = []
    if node.get("maximum", _INT32) < _INT32:
        facts.append(f"From {node['minimum']} to {node['maximum']}.")
    if "default" in node and not isinstance(node["default"], dict):
        facts.append(f"Default: {json.dumps(node['default'])}.")
    return {**node, "description": " ".join([node["description"], *facts])}


def _inlined(model: type[Model]) -> Schema:
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs", {})
    return _map_objects(_resolve(schema, definitions), _common_node)


def _resolve(node: Any, definitions: dict[str, Schema]) -> Any:
    if isinstance(node, list):
        return [_resolve(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return {key: _resolve(value, definitions) for key, value in node.items()}


def _map_objects(node: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """Return the schema with every schema inside it changed, innermost first. Names of properties are not schemas."""
    node = dict(node)
    if "properties" in node:
        node["properties"] = {name: _map_objects(child, change) for name, child in node["properties"].items()}
    if isinstance(node.get("additionalProperties"), dict):
        node["additionalProperties"] = _map_objects(node["additionalProperties"], change)
    if "items" in node:
        node["items"] = _map_objects(node["items"], change)
    if "anyOf" in node:
        node["anyOf"] = [_map_objects(branch, change) for branch in node["anyOf"]]
    return change(node)


def _common_node(node: Schema) -> Schema:
    node = {key: value for key, value in node.items() if key != "title"}
    branches = node.get("anyOf", [])
    if {"type": "null"} in branches:
        node = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        kept = [branch for branch in branches if branch != {"type": "null"}]
        node |= (
            kept[0] | {key: node[key] for key in ("description",) if key in node} if len(kept) == 1 else {"anyOf": kept}
        )
    if "description" in node:
        node["description"] = " ".join(node["description"].split())
    if isinstance(node.get("default"), dict):
        # Written out even if the properties' own defaults are equal to it: the API server checks the rules of an object
        # against its default as written.
        node["default"] = _without_nulls(node["default"])
    return node


def _without_nulls(default: Schema) -> Schema:
    return {
        key: _without_nulls(value) if isinstance(value, dict) else value
        for key, value in default.items()
        if value is not None
    }


def default_is_implied(node: Schema) -> bool:
    """Return whether an object's default only repeats the defaults of its properties."""
    properties = node.get("properties", {})
    implied = {name: child["default"] for name, child in properties.items() if "default" in child}
    return bool(properties) and node.get("default") == implied


def _structural_node(node: Schema) -> Schema:
    node = dict(node)
    if node.get(VERBATIM) or node.get("additionalProperties") is True:
        node = {**node, VERBATIM: True}
        del node["additionalProperties"]
    elif node.get("additionalProperties") is False:
        del node["additionalProperties"]
    if "anyOf" in node:
        branches = node.pop("anyOf")
        if {branch.get("type") for branch in branches} != {"integer", "string"}:
            raise TypeError(f"no structural form for {branches}")
        # pattern and maxLength apply to strings only, minimum and maximum to numbers only (JSON Schema validation, 6.2,
        # 6.3).
        limits = {key: value for branch in branches for key, value in branch.items() if key != "type"}
        node = {INT_OR_STRING: True, **limits, **node}
    return node


def _plain_node(node: Schema) -> Schema:
    node = {key: value for key, value in node.items() if not key.startswith("x-kubernetes-")}
    if node.get("additionalProperties") is True and "properties" in node:
        # Helm keeps nulls inside lists. The API server drops them from its own types.
        required = node.get("required", [])
        node["properties"] = {
            name: child if name in required else _or_null(child) for name, child in node["properties"].items()
        }
    return node


def _or_null(node: Schema) -> Schema:
    if "anyOf" in node:
        return {**node, "anyOf": [*node["anyOf"], {"type": "null"}]}
    return {**node, "type": [node["type"], "null"]}
