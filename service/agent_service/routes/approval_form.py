"""A tool call that waits for an approval, as answers show it."""

from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from agent_service.chat.approval_record import WaitingCall


class Approval(BaseModel):
    """A tool call that waits for an approval."""

    id: str = Field(description="Id of the tool call, for the decision.")
    tool: str = Field(description="Name of the tool.")
    server: str = Field(description="Name of the server in the agent's `tools`.")
    input: dict[str, Any] = Field(description="Exact arguments of the call.")
    expires_at: datetime = Field(description="When it is refused if there is no decision.")

    @classmethod
    def of(cls, call: WaitingCall) -> Self:
        """Return the answer's form of a call."""
        expires = datetime.fromtimestamp(call.expires, UTC)
        return cls(id=call.id, tool=call.tool, server=call.server, input=dict(call.input), expires_at=expires)
