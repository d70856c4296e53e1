"""Lists of tools as servers send them: what can be offered to a model, and what cannot. Pure.

A list comes from outside: one invalid tool must not take away the others, and each must be acceptable to a model API,
which refuses the whole request for one invalid schema.
"""

import fnmatch
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator

# More tools would cost more input tokens than the window of a model has room for.
MOST_TOOLS = 128
# What is read of a list at most, before `allow` selects from it.
MOST_LISTED = 1000
_LONGEST_NAME = 128
_LONGEST_DESCRIPTION = 4096
_LARGEST_SCHEMA_BYTES = 32 * 1024
_CUT = " [cut]"

# Names of properties that the Messages API accepts.
_PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
# Keywords that the Messages API does not accept at the top of a schema. They only restrict, and the server checks its
# input itself.
_NOT_AT_TOP = frozenset({"oneOf", "anyOf", "allOf", "$schema"})
# Unknown references would be fetched by no part of this program, and cannot be resolved by a model API.
_LOCAL_REFERENCE = re.compile(r"#(/.*|[A-Za-z_][-\w.]*)?")


@dataclass(frozen=True, slots=True)
class Listed:
    """A tool of a server's list that can be offered."""

    name: str
    description: str
    input_schema: Mapping[str, Any]


def well_formed(tool: object) -> dict[str, Any] | None:
    """Return the fields of a listed tool that matter, or None if they are not of the form that the protocol requires.

    Fields for display are dropped, and the output schema: it is the server's, and checking its patterns against the
    server's own output could take any time.
    """
    if not isinstance(tool, dict):
        return None
    name, description, schema = tool.get("name"), tool.get("description"), tool.get("inputSchema")
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        return None
    if not isinstance(schema, dict) or schema.get("type") != "object" or not _has_form(schema):
        return None
    text = description if isinstance(description, str) else ""
    return {"name": name, "description": text, "inputSchema": schema}


def _has_form(schema: Mapping[str, Any]) -> bool:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    return (
        isinstance(properties, dict)
        and all(isinstance(each, dict | bool) for each in properties.values())
        and isinstance(required, list)
        and all(isinstance(each, str) for each in required)
        and isinstance(schema.get("$schema", ""), str)
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """What is offered of a list.

    `invalid` and `repeated` are names; `cut` counts the tools beyond the bound, and `listed` all tools of the server.
    `unmatched` are the globs of `allow` that match none of them.
    """

    tools: tuple[Listed, ...]
    invalid: tuple[str, ...]
    repeated: tuple[str, ...]
    cut: int
    listed: int
    unmatched: tuple[str, ...]


def select(tools: Sequence[tuple[str, str, Mapping[str, Any]]], allow: Sequence[str]) -> Selection:
    """Return the tools that `allow` permits, valid and without repetitions, sorted by name.

    The order of a server's list may change from one answer to the next, and would void the cache of a model API.

    Args:
        tools: name, description and input schema of each.
        allow: globs, of which one must match a name.
    """
    kept: dict[str, Listed] = {}
    invalid: list[str] = []
    repeated: list[str] = []
    for name, description, schema in tools:
        if not any(fnmatch.fnmatchcase(name, glob) for glob in allow):
            continue
        if name in kept or name in invalid:
            # The first one counts. Which one the server means by the name is its own secret.
            repeated.append(name)
        elif not _is_valid(schema):
            invalid.append(name)
        else:
            kept[name] = Listed(name, _bounded(description), _offered(schema))
    ordered = sorted(kept.values(), key=lambda each: each.name)
    return Selection(
        tuple(ordered[:MOST_TOOLS]),
        tuple(invalid),
        tuple(dict.fromkeys(repeated)),
        max(0, len(ordered) - MOST_TOOLS),
        len(tools),
        tuple(glob for glob in allow if not any(fnmatch.fnmatchcase(name, glob) for name, _, _ in tools)),
    )


def digest(tools: Sequence[Listed]) -> str:
    """Return a digest of the names, descriptions and schemas of tools, which changes when one of them does."""
    content = [[tool.name, tool.description, tool.input_schema] for tool in tools]
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _bounded(description: str) -> str:
    # Half of a surrogate pair cannot be sent to a model API.
    text = description.encode("utf-8", "replace").decode()
    if len(text) <= _LONGEST_DESCRIPTION:
        return text
    return text[: _LONGEST_DESCRIPTION - len(_CUT)] + _CUT


def _is_valid(schema: Mapping[str, Any]) -> bool:
    try:
        if len(orjson.dumps(schema)) > _LARGEST_SCHEMA_BYTES:
            return False
        Draft202012Validator.check_schema(schema)
        return all(map(_PROPERTY.fullmatch, schema.get("properties", {}))) and _references_are_local(schema)
    except (SchemaError, RecursionError, TypeError, orjson.JSONEncodeError):
        return False


def _references_are_local(part: object) -> bool:
    if isinstance(part, dict):
        reference = part.get("$ref")
        if isinstance(reference, str) and not _LOCAL_REFERENCE.fullmatch(reference):
            return False
        return all(map(_references_are_local, part.values()))
    return not isinstance(part, list) or all(map(_references_are_local, part))


def _offered(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in schema.items() if key not in _NOT_AT_TOP}
