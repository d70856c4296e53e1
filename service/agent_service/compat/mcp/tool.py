"""The agent as one tool of MCP, `ask`: its description, its arguments and its results. Pure."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

import mcp_types as types
from pydantic import BaseModel, Field, ValidationError

from agent_service.chat.dialogue import Reply
from agent_service.routes.body import Body
from agent_service.routes.chat import Approval, ConversationId, ToolCall, sendable

NAME = "ask"

_WHAT = "Ask the agent {name} a question or give it a task, and get its answer."
_HOW = (
    "The agent remembers a conversation: to go on with it, send the conversation_id of the previous answer. "
    "Without one, a new conversation begins."
)


class Arguments(Body):
    """Arguments of `ask`."""

    message: Annotated[str, Field(min_length=1, description="What to ask the agent, in any language.")]
    conversation_id: ConversationId | None = None


class Answer(BaseModel):
    """Structured result of `ask`."""

    response: str = Field(description="Answer of the agent; the text so far if `status` is `input_required`.")
    conversation_id: str = Field(description="Id that continues this conversation when sent with the next message.")
    steps: list[ToolCall] | None = Field(
        None, description="Tool calls that the answer is based on, in the order in which they began. Absent if none."
    )
    stop_reason: str | None = Field(None, description="Why the answer was cut short. Absent if it was not.")
    warning: str | None = Field(
        None,
        description="Why the answer was not saved in the conversation, or was made without its earlier messages.",
    )
    status: Literal["input_required"] | None = Field(
        None, description="`input_required` if tool calls wait for a person's approval. Otherwise absent."
    )
    approvals: list[Approval] | None = Field(None, description="Tool calls that wait for an approval. Absent if none.")
