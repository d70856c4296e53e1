"""Parse an `AgentDeployment` from a file or the API server, and report all its faults."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from agent_operator.api.agent import API_VERSION, KIND, NAME_RULE, AgentDeployment
from agent_operator.api.bounds import MAX_DEPTH, UNREADABLE, excess
from agent_operator.api.repeats import repeats
from agent_operator.api.spec import AgentSpec


@dataclass(frozen=True)
class Fault:
    """A fault of one field: its path (as in `spec.agent.maxTokens`) and a sentence, never the value."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class InvalidAgentError(ValueError):
    """An object that is not a valid `AgentDeployment`, with every fault that was found."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


def parse(document: Mapping[str, Any], *, namespace: str = "default") -> AgentDeployment:
    """Return the `AgentDeployment` of a document. `namespace` is the default for a document without one.

    Raises InvalidAgentError with all faults of the document.
    """
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    faults = [*_faults_of_kind(document), *_faults_of_metadata(metadata)]
    too_large = list(beyond_bounds(document))
    if too_large:
        raise InvalidAgentError([*faults, *too_large])
    spec: AgentSpec | None = None
    given = without_nulls(document.get("spec", {}))
    try:
        spec = AgentSpec.model_validate(given)
    except ValidationError as error:
        faults += faults_of(error, "spec")
    if isinstance(given, Mapping):
        faults += [Fault(*repeated) for repeated in repeats(given)]
    if faults or spec is None:
        raise InvalidAgentError(faults)
    return AgentDeployment(
        name=metadata["name"],
        namespace=metadata.get("namespace") or namespace,
        spec=spec,
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 0),
    )


def beyond_bounds(document: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield the faults of values that are too deep or too large to be inspected."""
    if UNREADABLE in document:
        yield from (Fault(field, sentence) for field, sentence in document[UNREADABLE])
        return
    spec = document.get("spec")
    fields = spec.items() if isinstance(spec, Mapping) else ()
    found = [Fault(f"spec.{key}", fault) for key, value in fields if (fault := excess(value)) is not None]
    whole = excess(spec, MAX_DEPTH + 1) if not found else None
    yield from found or ([Fault("spec", whole)] if whole is not None else [])


def without_nulls(value: Any) -> Any:
    """Return the value without the null members of its objects: the API server and Helm both drop them."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def faults_of(error: ValidationError, root: str) -> list[Fault]:
    """Return the faults of a pydantic error, one per field, with paths as the user writes them, under `root`."""
    by_field: dict[str, str] = {}
    for item in error.errors(include_url=False, include_input=False):
        path = root
        for part in item["loc"]:
            if isinstance(part, int):
                path += f"[{part}]"
            elif not _is_branch(part):
                path += f".{part}"
        if item["type"] == "rule" and item.get("ctx", {}).get("field"):
            path += f".{item['ctx']['field']}"
        sentence = _sentence(item["type"], item["msg"])
        by_field[path] = f"{by_field[path]}, or {sentence}" if path in by_field else sentence
    return [Fault(path, sentence) for path, sentence in by_field.items()]


def _is_branch(part: str) -> bool:
    """Return whether a part of pydantic's path names a union branch or a validator instead of a field."""
    return part in {"int", "str"} or part.startswith(("constrained-", "function-", "Annotated["))


def _sentence(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "unknown field: check its spelling and place"
    if kind == "missing":
        return "is required"
    if kind in {"model_type", "dict_type"}:
        return "should be an object"
    if kind == "list_type":
        return "should be a list"
    return message[:1].lower() + message[1:]


def _faults_of_kind(document: Mapping[str, Any]) -> list[Fault]:
    faults = []
    if document.get("apiVersion") != API_VERSION:
        faults.append(Fault("apiVersion", f"should be {API_VERSION}"))
    if document.get("kind") != KIND:
        faults.append(Fault("kind", f"should be {KIND}"))
    return faults


def _faults_of_metadata(metadata: Mapping[str, Any]) -> list[Fault]:
    name = metadata.get("name")
    if not isinstance(name, str) or not name:
        return [Fault("metadata.name", "is required")]
    return [] if NAME_RULE.holds(name) else [Fault("metadata.name", NAME_RULE.message)]
