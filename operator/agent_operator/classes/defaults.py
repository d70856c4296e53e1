"""The spec of an agent with the defaults of its class, and where each of its values comes from. Pure.

The API server writes the defaults of the schema into each agent, so a value that equals one may not be the user's: it
counts as unset. The result is therefore the same for a file as for the object in the cluster.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pydantic import ValidationError

from agent_operator.api.agent_class import AgentClassSpec
from agent_operator.api.schema import VERBATIM, Schema, structural
from agent_operator.api.spec import AgentSpec
from agent_operator.api.validation import InvalidAgentError, faults_of
from agent_operator.classes.checks import LIMITS

Origin = Literal["spec", "class", "default"]

# Blocks that are one value, as their fields exclude or complete each other.
WHOLE = (
    *("image", "apiKey", "redis", "resources"),
    *("agent.bedrock", "agent.vertex", "agent.foundry", "agent.credentials"),
)


@dataclass(frozen=True)
class Effective:
    """A spec with the defaults of its class. `origins` has the origin of each value, by path, as in `agent.model`.

    A list and a map without fixed keys are one value.
    """

    spec: AgentSpec
    origins: Mapping[str, Origin]


def with_class(spec: AgentSpec, given: AgentClassSpec) -> Effective:
    """Return the effective spec of an agent of this class.

    It names no class, so that all rules apply to it. Raises InvalidAgentError if it breaks one.
    """
    document = document_of(spec)
    document.pop("className", None)
    taken: set[str] = set()
    merged = _merged(document, given.defaults, "", taken)
    try:
        effective = AgentSpec.model_validate(merged)
    except ValidationError as error:
        raise InvalidAgentError(faults_of(error, "spec")) from error
    return Effective(effective, _origins(effective, taken))


def provided(given: AgentClassSpec) -> tuple[dict[str, Any], set[str]]:
    """Return the spec of an agent that sets nothing, as a document, and the paths that the class has a value for."""
    taken: set[str] = set()
    document = document_of(AgentSpec.model_validate({"className": "any"}))
    merged = _merged(document, given.defaults, "", taken)
    # A spec that lacks what the agents provide is not valid, and then has no defaults of the schema in what is new.
    with suppress(ValidationError):
        merged = document_of(AgentSpec.model_validate(merged))
    merged.pop("className")
    return merged, taken


def origins_of(spec: AgentSpec) -> dict[str, Origin]:
    """Return the origin of each value of a spec without a class."""
    return _origins(spec, set())


def _origins(spec: AgentSpec, taken: set[str]) -> dict[str, Origin]:
    return {path: _origin(path, value, taken) for path, value in values(document_of(spec))}


def document_of(spec: AgentSpec) -> dict[str, Any]:
    """Return the spec as a document, without the fields that are unset."""
    return spec.model_dump(by_alias=True, exclude_none=True)


@cache
def schema_default(path: str) -> Any:
    """Return the value that the API server writes for a field without one, or None."""
    node: Schema = structural(AgentSpec)
    for name in path.split("."):
        node = node.get("properties", {}).get(name, {})
    return node.get("default")


def has_fields(path: str) -> bool:
    """Return whether the value at a path is an object with fields of its own, each of which is a value."""
    node: Schema = structural(AgentSpec)
    for name in path.split("."):
        node = node.get("properties", {}).get(name, {})
    return "properties" in node and not node.get(VERBATIM)


def block_of(path: str, blocks: Iterable[str] = WHOLE) -> str:
    """Return the block that a path is in, or the path itself if it is in none."""
    return next((each for each in blocks if path == each or path.startswith(f"{each}.")), path)


def is_unset(path: str, value: Any) -> bool:
    """Return whether a value counts as unset: it is missing, or the default of the schema."""
    return value is None or bool(value == schema_default(path))


def _merged(document: Mapping[str, Any], defaults: Mapping[str, Any], parent: str, taken: set[str]) -> dict[str, Any]:
    """Return the document with the defaults where it has no value. The paths of these are added to `taken`."""
    merged = dict(document)
    for name, default in defaults.items():
        path, value = f"{parent}{name}", document.get(name)
        if path == "budget" and value is None and not default.keys() & LIMITS:
            continue  # Prices alone are for agents that have a budget.
        if path not in WHOLE and has_fields(path):
            merged[name] = _merged(value or {}, default, f"{path}.", taken)
        elif is_unset(path, value):
            merged[name] = default
            taken |= {each for each, _ in values({name: default}, parent)}
    return merged


def _origin(path: str, value: Any, taken: set[str]) -> Origin:
    if path in taken:
        return "class"
    return "default" if is_unset(path, value) else "spec"


def values(document: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of a document with its path, in the order of the fields."""
    for name, value in document.items():
        path = f"{parent}{name}"
        if isinstance(value, Mapping) and has_fields(path):
            yield from values(value, f"{path}.")
        else:
            yield path, value
