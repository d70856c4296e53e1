"""The arguments of a tool: a JSON Schema from the type hints of its function, and their validation."""

import inspect
import typing
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

_MOST_FAULTS = 10

_ADVICE = {
    inspect.Parameter.POSITIONAL_ONLY: "is positional-only; remove the `/`",
    inspect.Parameter.VAR_POSITIONAL: "takes any number of values; write `values: list[str]`",
    inspect.Parameter.VAR_KEYWORD: "takes any name; write each parameter with its type",
}


class SignatureError(Exception):
    """The parameters of a function cannot be described to a model. The message says which one, and what to write."""


class ArgumentsError(Exception):
    """The arguments of a call do not fit. The message names each of them, and is for the model."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of a function."""

    schema: Mapping[str, Any]
    model: type[BaseModel]
    names: Mapping[str, str]
    """Parameter of the function by the field of the model."""

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call as values of the types of the function's parameters.

        Raises:
            ArgumentsError: if they do not fit.
        """
        try:
            read = self.model.model_validate(dict(given))
        except ValidationError as error:
            raise ArgumentsError(_explain(error)) from None
        # A default stays that of the function.
        return {name: getattr(read, field) for field, name in self.names.items() if field in read.model_fields_set}


class _Schema(GenerateJsonSchema):
    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """Ignore it: a default that is no JSON is left out of the schema."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False: a title would repeat the name."""
        return False


def arguments_of(function: Callable[..., Any]) -> Arguments:
    """Return the arguments that a function takes.

    Raises:
        SignatureError: if a parameter has no type, or one that JSON Schema cannot describe.
    """
    types = _types(function)
    fields: dict[str, Any] = {}
    names: dict[str, str] = {}
    for number, (name, parameter) in enumerate(inspect.signature(function).parameters.items()):
        annotation = _checked(name, parameter, types)
        required = parameter.default is inspect.Parameter.empty
        # Not the parameter's own name, because a model reserves some, such as `schema`.
        field = f"argument_{number}"
        names[field] = name
        fields[field] = (annotation, Field(... if required else parameter.default, alias=name))
    model = create_model("Arguments", __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields)
    schema = model.model_json_schema(schema_generator=_Schema)
    schema.pop("title", None)
    schema.setdefault("properties", {})
    return Arguments(schema, model, names)


def _types(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    except Exception as error:
        raise SignatureError(f"its type hints cannot be read ({type(error).__name__}: {error})") from None


def _checked(name: str, parameter: inspect.Parameter, types: Mapping[str, Any]) -> Any:
    if parameter.kind in _ADVICE:
        raise SignatureError(f"parameter `{name}` {_ADVICE[parameter.kind]}")
    if name not in types:
        raise SignatureError(f"parameter `{name}` has no type; write for example `{name}: str`")
    if isinstance(parameter.default, FieldInfo):
        raise SignatureError(f"parameter `{name}` has a Field as its default; write `Annotated[…, Field(…)]`")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            TypeAdapter(types[name]).json_schema(schema_generator=_Schema)
    except (PydanticUserError, TypeError, NameError) as error:
        # The first line: the rest is about configuring pydantic.
        reason = str(error).partition("\n")[0].partition(". Set `arbitrary_types")[0]
        shown = getattr(types[name], "__name__", None) or str(types[name])
        raise SignatureError(
            f"parameter `{name}` has the type {shown}, which a model cannot be given; use types that JSON has, "
            f"dataclasses or pydantic models ({reason})"
        ) from None
    return types[name]


def _explain(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    lines = []
    for fault in faults[:_MOST_FAULTS]:
        where = ".".join(str(part) for part in fault["loc"]) or "arguments"
        message = "is no argument of this tool" if fault["type"] == "extra_forbidden" else str(fault["msg"])
        lines.append(f"{where}: {message}")
    if len(faults) > _MOST_FAULTS:
        lines.append(f"and {len(faults) - _MOST_FAULTS} more")
    return "Invalid arguments. " + "; ".join(lines)
