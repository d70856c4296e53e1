"""The base of all embedded parts of the Kubernetes API.

Known fields are checked, so that a value of the wrong type is rejected where it was written. Unknown fields are kept:
newer API servers have more fields, and they decide what the values mean.
"""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, StringConstraints
from pydantic_core import CoreSchema, core_schema

from agent_operator.api.base import Model

# One field manager owns the whole value. Otherwise the managed fields of the object would repeat each of its levels. An
# object just within the API server's depth limit of 10,000 would then be stored beyond it, and lists could no longer be
# decoded.
WHOLE: dict[str, Any] = {"x-kubernetes-map-type": "atomic"}
# How server-side apply merges a list (KEP-555, "listType").
ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
SET: dict[str, Any] = {"x-kubernetes-list-type": "set"}


def keyed(*keys: str) -> dict[str, Any]:
    """Return the schema extensions for a list whose entries are identified by these fields."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def listed(*, by: str | None = None) -> Any:
    """Return the bounds of a list that has one owner.

    Args:
        by: the field that must differ between the entries, where server-side apply refuses duplicates.
    """
    return Field(max_length=1000, json_schema_extra=ATOMIC if by is None else keyed(by))


Text = Annotated[str, StringConstraints(max_length=4096)]
# Linux does not start a program with a longer argument or variable (MAX_ARG_STRLEN).
LongText = Annotated[str, StringConstraints(max_length=131_072)]
Texts = Annotated[list[Text], listed()]
TextMap = Annotated[dict[str, Text], Field(max_length=1000)]
# Kubernetes stores a user or group ID in 64 bits, and accepts this range (apimachinery, IsValidUserID).
Number = Annotated[int, Field(ge=0, le=2**31 - 1)]
NumberOrText = Annotated[Text | Number, Field()]


class Part(Model):
    """A part of the Kubernetes API, which may have additional fields."""

    model_config = ConfigDict(extra="allow", json_schema_extra=WHOLE)


class AsWritten:
    """In `Annotated[dict[str, Any], AsWritten(Model)]`: a value is validated as the model and kept as written."""

    def __init__(self, model: type[Model]) -> None:
        self._model = model

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def keep(value: Any, check: core_schema.ValidatorFunctionWrapHandler) -> Any:
            check(value)
            return value

        kept = core_schema.plain_serializer_function_ser_schema(lambda value: value)
        return core_schema.no_info_wrap_validator_function(
            keep, handler.generate_schema(self._model), serialization=kept
        )
