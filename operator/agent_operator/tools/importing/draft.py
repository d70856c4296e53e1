"""An AgentDeployment in the making: its spec, the source of each field, and what has to be reported."""

from dataclasses import dataclass, field
from typing import Any, Literal

from agent_operator.api.agent import API_VERSION, KIND
from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.document import Document


@dataclass(frozen=True)
class Note:
    """One line for the user about a field of the source.

    `lost` fields are not in the result; a `note` explains what is different there. The message states what to do, and
    never quotes a value.
    """

    kind: Literal["lost", "note"]
    field: str
    message: str


@dataclass
class Draft:
    """An AgentDeployment that is built field by field.

    `title` names the source object in messages. `sources` maps a path of the spec, such as `runtime.env`, to the path
    in the source object that it was copied from.
    """

    title: str
    name: str
    namespace: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)

    def put(self, target: str, value: Any, source: str) -> None:
        """Set the field of the spec at this path. Empty values are left out."""
        if value is None or value in ({}, []):
            return
        *parents, last = target.split(".")
        inside = self.spec
        for each in parents:
            inside = inside.setdefault(each, {})
        inside[last] = value
        self.sources[target] = source

    def lost(self, source: str, message: str) -> None:
        """Report a field of the source that is not carried over."""
        self.notes.append(Note("lost", source, message))

    def note(self, source: str, message: str) -> None:
        """Report a field of the source that is carried over in another way."""
        self.notes.append(Note("note", source, message))

    def document(self) -> Document:
        """Return the object, with the fields of the spec in the order of the reference."""
        order = [each.alias or name for name, each in AgentSpec.model_fields.items()]
        known = {name: self.spec[name] for name in order if name in self.spec}
        metadata: Document = {"name": self.name}
        metadata |= {"namespace": self.namespace} if self.namespace else {}
        metadata |= {"labels": self.labels} if self.labels else {}
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": {**known, **self.spec}}


def object_of(value: Any) -> dict[str, Any]:
    """Return the value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def objects_of(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a list; empty if the value is not a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text_of(value: Any) -> str:
    """Return the value if it is text, else an empty one."""
    return value if isinstance(value, str) else ""
