"""What all embedded parts of Kubernetes' API share.

What is known of them is checked, so that a value of the wrong type is refused where it was written. What is not known
is kept: newer API servers have more fields, and they judge what the values mean.
"""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, StringConstraints
from pydantic_core import CoreSchema, core_schema

from agent_operator.api.base import Model

# A field manager owns it as a whole: else the managed fields of the object would repeat each level of it, and an object
# that is just within the API server's depth of 10,000 would be stored beyond it, where no list can be decoded again.
WHOLE: dict[str, Any] = {"x-kubernetes-map-type": "atomic"}
ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}


def listed() -> Any:
    """Return the bounds of a list that has one owner."""
    return Field(max_length=1000, json_schema_extra=ATOMIC)


Text = Annotated[str, StringConstraints(max_length=4096)]
# Linux starts no program with a longer argument or variable (MAX_ARG_STRLEN).
LongText = Annotated[str, StringConstraints(max_length=131_072)]
Texts = Annotated[list[Text], listed()]
TextMap = Annotated[dict[str, Text], Field(max_length=1000)]
# Kubernetes has 64 bits for a user or a group, and takes those of this range (apimachinery, IsValidUserID).
Number = Annotated[int, Field(ge=0, le=2**31 - 1)]
NumberOrText = Annotated[Text | Number, Field()]


class Part(Model):
    """A part of Kubernetes' API, with further fields."""

    model_config = ConfigDict(extra="allow", json_schema_extra=WHOLE)


class AsWritten:
    """In `Annotated[dict[str, Any], AsWritten(Model)]`: checked as the model, and kept as it was written."""

    def __init__(self, model: type[Part]) -> None:
        self._model = model

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def keep(value: Any, check: core_schema.ValidatorFunctionWrapHandler) -> Any:
            check(value)
            return value

        kept = core_schema.plain_serializer_function_ser_schema(lambda value: value)
        return core_schema.no_info_wrap_validator_function(
            keep, handler.generate_schema(self._model), serialization=kept
        )
