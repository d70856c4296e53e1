"""Rules of the spec that a type alone cannot say, each written once with its two checks and its sentence.

The API server checks the CEL expression (Kubernetes: "Validation rules" of CustomResourceDefinitions), so that bad
input is refused at `kubectl apply`; `holds` checks the same where there is no API server, as in
`agent-operator render`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True)
class Rule:
    """One rule about a value, used as `Annotated[T, Rule(...)]` or listed in a model's `rules`.

    `cel` sees the value as `self`; `holds` gets the validated value; `message` says what to do, and is what the user
    reads from either check. `field` names the property at fault, when it is not the value itself.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool]
    field: str | None = None

    def check(self, value: Any) -> Any:
        """Return the value unchanged, or raise the error that carries the rule's sentence."""
        if not self.holds(value):
            raise PydanticCustomError("rule", "{sentence}", {"sentence": self.message, "field": self.field})
        return value

    def schema(self) -> dict[str, str]:
        """The rule as an entry of `x-kubernetes-validations`."""
        entry = {"rule": self.cel, "message": self.message}
        return entry | ({"fieldPath": f".{self.field}"} if self.field else {})

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return with_rules(handler(core), self)


def with_rules(schema: JsonSchemaValue, *rules: Rule) -> JsonSchemaValue:
    """The schema with these rules added after those it has."""
    if not rules:
        return schema
    return {**schema, VALIDATIONS: [*schema.get(VALIDATIONS, []), *(rule.schema() for rule in rules)]}
