"""The events of a stream, as the OpenAPI document tells them."""

from typing import Any

_STRING = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}


def _event(kind: str, optional: dict[str, Any] | None = None, /, **fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"type": {"const": kind}, **fields, **(optional or {})},
        "required": ["type", *fields],
        "additionalProperties": False,
    }


# What stands behind `data:`.
_EVENT = {
    "oneOf": [
        _event("text", content=_STRING),
        _event(
            "done",
            {"stop_reason": {"type": ["string", "null"]}, "warning": _STRING},
            input_tokens=_COUNT,
            output_tokens=_COUNT,
            conversation_id=_STRING,
        ),
        _event("error", message=_STRING),
    ]
}

_DATA = {"type": "string", "contentMediaType": "application/json", "contentSchema": _EVENT}

# `itemSchema` is of OpenAPI 3.2; FastAPI writes it into documents of 3.1 too, whose readers pass over what they do not
# know.
EVENT_STREAM: dict[str, Any] = {
    "text/event-stream": {"itemSchema": {"type": "object", "properties": {"data": _DATA}, "required": ["data"]}}
}
