"""Typed reading of JSON that a client sent: each error has the path of the field, as OpenAI's API writes it. Pure."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Never

import orjson

from agent_service.agent.messages import sendable
from agent_service.compat.openai.errors import InvalidRequestError

_KINDS: Mapping[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


class Fields:
    """The fields of one object. `path` is where it is in the request; empty for the request itself.

    A field that is null counts as absent, as in OpenAI's API. Texts are made sendable: half a surrogate pair, which
    JavaScript clients send when they cut a text, and NUL are replaced.
    """

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self._values = values
        self.path = path

    def at(self, name: str) -> str:
        """Return the path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def raw(self, name: str) -> Any:
        """Return the value of a field as it is; None if it is absent."""
        return self._values.get(name)

    def text(self, name: str) -> str | None:
        """Return a string; None if it is absent."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            self.refuse_type(name, "a string")
        return None if value is None else sendable(value)

    def needed_text(self, name: str) -> str:
        """Return a string that must be there."""
        value = self.text(name)
        if value is None:
            raise InvalidRequestError(
                f"Missing required parameter: '{self.at(name)}'.", self.at(name), code="missing_required_parameter"
            )
        return value

    def flag(self, name: str) -> bool | None:
        """Return a boolean; None if it is absent."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, bool):
            self.refuse_type(name, "a boolean")
        return value

    def count(self, name: str) -> int | None:
        """Return a positive integer; None if it is absent."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse_type(name, "an integer")
        if value < 1:
            raise InvalidRequestError(
                f"Invalid '{self.at(name)}': integer below minimum value. Expected a value >= 1.",
                self.at(name),
                code="integer_below_min_value",
            )
        return int(value)

    def object(self, name: str) -> "Fields | None":
        """Return an object; None if it is absent."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.refuse_type(name, "an object")
        return Fields(value, self.at(name))

    def needed_object(self, name: str) -> "Fields":
        """Return an object that must be there."""
        if self._values.get(name) is None:
            self.refuse_type(name, "an object")
        return Fields({}) if (found := self.object(name)) is None else found

    def objects(self, name: str) -> list["Fields"] | None:
        """Return an array of objects; None if it is absent."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            self.refuse_type(name, "an array")
        return list(self._each(name, value))

    def refuse_type(self, name: str, expected: str) -> Never:
        """Raise the error for a field of another type than expected."""
        found = _KINDS.get(type(self._values.get(name)), "another value")
        raise _of_type(self.at(name), expected, found)

    def refuse_value(self, name: str, supported: str) -> Never:
        """Raise the error for a field whose value is none of those that are supported."""
        raise InvalidRequestError(
            f"Invalid value for '{self.at(name)}'. Supported values are: {supported}.",
            self.at(name),
            code="invalid_value",
        )

    def _each(self, name: str, values: list[Any]) -> Iterator["Fields"]:
        for number, value in enumerate(values):
            path = f"{self.at(name)}[{number}]"
            if not isinstance(value, dict):
                raise _of_type(path, "an object", _KINDS.get(type(value), "another value"))
            yield Fields(value, path)


def _of_type(path: str, expected: str, found: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"Invalid type for '{path}': expected {expected}, but got {found} instead.", path, code="invalid_type"
    )


def read_body(content: bytes) -> Fields:
    """Return the fields of a request's body.

    Raises:
        InvalidRequestError: if it is not a JSON object.
    """
    try:
        value = _loaded(content)
    except (ValueError, RecursionError):
        raise InvalidRequestError(
            "We could not parse the JSON body of your request. The API expects a JSON payload of type object."
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequestError("The body of the request must be a JSON object.")
    return Fields(value)


def _loaded(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except ValueError:
        # orjson refuses half a surrogate pair in an escape.
        return json.loads(content.decode(), parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
