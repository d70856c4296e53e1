"""Short descriptions of values, derived from their JSON schemas."""

from typing import Any

from codegen.markdown import code

Schema = dict[str, Any]


def type_text(schema: Schema) -> str:
    """Return the type of a value and its bounds, such as `integer, 1 to 64`; objects of the document become links."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_text(choice) for choice in schema["anyOf"]))
    if isinstance(schema.get("type"), list):
        return " or ".join(type_text({**schema, "type": kind}) for kind in schema["type"])
    if "const" in schema:
        return code(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(code(value) for value in schema["enum"])
    return _of_type(schema)


def _of_type(schema: Schema) -> str:
    kind = str(schema.get("type", "any value"))
    if kind == "array":
        return f"list of {type_text(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map of {type_text(schema['additionalProperties'])}"
    if kind == "string" and "format" in schema and schema["format"] not in {"password", "path"}:
        kind = f"string ({schema['format']})"
    bounds = _range(schema, kind)
    return f"{kind}, {bounds}" if bounds else kind


def _range(schema: Schema, kind: str) -> str:
    if kind.startswith("string"):
        return _from_to(schema.get("minLength"), schema.get("maxLength"), " characters")
    above = schema.get("exclusiveMinimum")
    if above is not None:
        return (
            f"above {_number(above)}, up to {_number(schema['maximum'])}" if "maximum" in schema else f"above {above}"
        )
    return _from_to(schema.get("minimum"), schema.get("maximum"), "")


def _from_to(low: float | None, high: float | None, unit: str) -> str:
    if low is not None and high is not None:
        return f"{_number(low)} to {_number(high)}{unit}"
    if high is not None:
        return f"up to {_number(high)}{unit}"
    # A minimum length alone is left out: readers expect that a text is not empty.
    return f"from {_number(low)}" if low is not None and not unit else ""


def _number(value: float) -> str:
    return f"{value:,g}" if value != int(value) else f"{int(value):,}"
