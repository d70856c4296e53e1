"""Who decides on tool calls that need an approval, and how long they wait."""

from typing import Annotated

from pydantic import Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.kubernetes.part import SET

# The id of a client, as the service computes it: a key itself has no place in a spec.
_PART = r"[A-Za-z]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
ClientId = Annotated[
    str,
    StringConstraints(
        pattern=rf"^([0-9a-f]{{16}}|({_PART}/)?{_PART}|jwt:[0-9a-f]{{8}}:[A-Za-z0-9._~%-]*/[A-Za-z0-9._~%-]+)$",
        max_length=1024,
    ),
]


class Approvals(Model):
    """Decisions on calls of the tools in `tools[].approve`."""

    approvers: Annotated[list[ClientId], Field(max_length=100, json_schema_extra=SET)] | None = None
    """Clients that may decide, by the names of their keys. The name of a key without one is the first 16 hexadecimal
    digits of its SHA-256. If unset, the client that asked decides."""
    ttl_seconds: Annotated[int, Field(ge=1, le=604_800)] | None = None
    """Seconds within which a call must be decided. After them it is refused. Defaults to 3600."""
