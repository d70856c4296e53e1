"""Rules of the spec that types alone cannot express, each defined once with its two checks and its message.

The API server evaluates the CEL expression (Kubernetes: "Validation rules" of CustomResourceDefinitions), so that
invalid input is rejected at `kubectl apply`. `holds` performs the same check where there is no API server, as in
`agent-operator render`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_snake
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True)
class Rule:
    """A rule about a value, used as `Annotated[T, Rule(...)]` or listed in a model's `rules`.

    `cel` refers to the value as `self`. `holds` takes the validated value. `message` states what to do; both checks
    show it to the user. `field` names the property at fault, if it is not the value itself. The rule does not apply to
    a value that has the optional property `unless`.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool]
    field: str | None = None
    unless: str | None = None

    def check(self, value: Any) -> Any:
        """Return the value unchanged, or raise an error that carries the rule's message."""
        exempt = self.unless is not None and getattr(value, to_snake(self.unless)) is not None
        if not exempt and not self.holds(value):
            raise PydanticCustomError("rule", "{sentence}", {"sentence": self.message, "field": self.field})
        return value

    def schema(self) -> dict[str, str]:
        """Return the rule as an entry of `x-kubernetes-validations`."""
        cel = self.cel if self.unless is None else f"has(self.{self.unless}) || ({self.cel})"
        entry = {"rule": cel, "message": self.message}
        return entry | ({"fieldPath": f".{self.field}"} if self.field else {})

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return with_rules(handler(core), self)


def with_rules(schema: JsonSchemaValue, *rules: Rule) -> JsonSchemaValue:
    """Return the schema with these rules appended to its own."""
    if not rules:
        return schema
    return {**schema, VALIDATIONS: [*schema.get(VALIDATIONS, []), *(rule.schema() for rule in rules)]}
