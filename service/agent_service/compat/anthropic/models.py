"""The agent as a model of Anthropic's `GET /v1/models`. Pure."""

from typing import Any

# The API uses an epoch value where the date of a model is unknown.
_UNKNOWN_DATE = "1970-01-01T00:00:00Z"


def model_info(name: str) -> dict[str, Any]:
    """Return the agent as a model."""
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": _UNKNOWN_DATE,
        "lifecycle": "active",
        "capabilities": None,
        "max_input_tokens": None,
        "max_tokens": None,
    }


def model_list(name: str) -> dict[str, Any]:
    """Return the list of models, which has the agent alone."""
    return {"data": [model_info(name)], "has_more": False, "first_id": name, "last_id": name}
