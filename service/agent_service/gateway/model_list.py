"""Descriptions of models that are valid in the forms of both APIs. Pure."""

from collections.abc import Iterable

# When a model was released is not known here. "May be set to an epoch value if the release date is unknown" (SDK,
# types/model_info.py).
_RELEASED = "1970-01-01T00:00:00Z"


def model(name: str) -> dict[str, object]:
    """Return the description of a model, which is valid in both forms."""
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": _RELEASED,
        "lifecycle": "active",
        "object": "model",
        "created": 0,
        "owned_by": "portside",
    }


def models(names: Iterable[str]) -> dict[str, object]:
    """Return a list of models, which is valid in both forms."""
    data = [model(name) for name in names]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, "has_more": False, **ends}
