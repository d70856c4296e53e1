"""What is wrong with a request: the field, and a sentence."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException

# The client chooses the names of fields and types.
_LONGEST_NAME = 64


def invalid(where: str, sentence: str) -> HTTPException:
    """Return the error of an invalid request; `where` is the path of the field, such as `messages.0.content`."""
    return HTTPException(422, f"{where}: {sentence}" if where else sentence)


def shown(value: object) -> str:
    """Return a name that the client chose, cut if it is long."""
    text = value if isinstance(value, str) else type(value).__name__
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}…"


def required_object(value: object, where: str) -> Mapping[str, Any]:
    """Return a value that must be an object."""
    if not isinstance(value, dict):
        raise invalid(where, "must be an object.")
    return value


def required_list(value: object, where: str) -> list[Any]:
    """Return a value that must be a list."""
    if not isinstance(value, list):
        raise invalid(where, "must be a list.")
    return value


def required_text(value: object, where: str) -> str:
    """Return a value that must be a text, which may be empty."""
    if not isinstance(value, str):
        raise invalid(where, "must be a string.")
    return value
