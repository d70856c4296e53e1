"""The answer for a task that was accepted."""

from typing import Annotated

from fastapi import Header
from pydantic import BaseModel, Field

from agent_service.tasks.record import Status, Submitted

# Visible ASCII, so that it fits into a header and into the name of a Redis key.
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern="^[!-~]+$",
        description="Key chosen by the client. A request with the same key returns the task that the first one "
        "created, and creates no second task.",
    ),
]


class Accepted(BaseModel):
    """Answer of `POST /tasks`."""

    task_id: str
    status: Status = Field(description="`pending`, unless the idempotency key created the task earlier.")
    status_url: str = Field(description="Path of the task, for its state and result.")
    events_url: str = Field(description="Path of the task's events, as they happen.")
    conversation_id: str | None = Field(
        None, description="Id that continues this conversation when sent with the next message. Null for a plain task."
    )


def accepted_of(submitted: Submitted) -> Accepted:
    """Return the answer for a task that was accepted."""
    url = f"/tasks/{submitted.id}"
    return Accepted(
        task_id=submitted.id,
        status=submitted.status,
        status_url=url,
        events_url=f"{url}/events",
        conversation_id=submitted.conversation_id or None,
    )
