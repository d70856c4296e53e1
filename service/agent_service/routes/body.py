"""The base of all request bodies: unknown fields are rejected, at a bounded cost."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

# Up to so many unknown fields are listed one by one. A body of 256 KiB can have 40,000, and each would be an error.
_MOST_UNKNOWN = 8


class Body(BaseModel):
    """Body of a request. An unknown field is an error."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > len(cls.model_fields) + _MOST_UNKNOWN:
            raise ValueError(f"has {len(value)} fields; only {', '.join(cls.model_fields)} are allowed")
        return value
