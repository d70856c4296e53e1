"""The base of all API models: camelCase on the wire, no unknown fields, no silent conversion."""

from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from agent_operator.api.rules import Rule, with_rules


class Model(BaseModel):
    """A part of an `AgentDeployment`.

    It is as strict as the API server: the string "2" is not a number, and a field that is not in the schema is an
    error.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
        # Errors must not quote the input: it may be a key.
        hide_input_in_errors=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _keeps_the_rules(self) -> Self:
        for rule in self.rules:
            rule.check(self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        reference = handler(core)
        schema = handler.resolve_ref_schema(reference)
        schema.update(with_rules(schema, *cls.rules))
        return reference
