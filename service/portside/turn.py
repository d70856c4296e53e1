"""A turn, as the function `answer` of a Python file receives it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import structlog
from structlog.typing import FilteringBoundLogger

from portside.models import DEFAULT_MAX_TOKENS, DEFAULT_MODEL, Models

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types import MessageParam

# For callers that send no deadline; Portside always sends one.
_DEFAULT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Message:
    """An earlier message of the conversation: the user's, or the agent's answer."""

    role: Literal["user", "assistant"]
    content: str


def _default_deadline() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=_DEFAULT_SECONDS)


def _default_model() -> str:
    return os.environ.get("PORTSIDE_MODEL") or DEFAULT_MODEL


def _default_max_tokens() -> int:
    given = os.environ.get("PORTSIDE_MAX_TOKENS", "")
    return int(given) if given.isascii() and given.isdigit() and int(given) > 0 else DEFAULT_MAX_TOKENS


def _default_mcp_url() -> str | None:
    return os.environ.get("PORTSIDE_MCP_URL") or None


def _default_log() -> FilteringBoundLogger:
    log: FilteringBoundLogger = structlog.get_logger("agent")
    return log


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One question to the agent. Only `message` is required, so a test can create one: `Turn(message="Hello")`."""

    message: str
    """What the user wrote."""

    history: tuple[Message, ...] = ()
    """The earlier messages of the conversation, oldest first, without `message`."""

    conversation_id: str | None = None
    """Id of the conversation; None for a question outside of any."""

    client: str | None = None
    """Id of the client that asks, by its client key; None where it is not known."""

    system_prompt: str | None = None
    """The agent's system prompt; None if there is none."""

    deadline: datetime = field(default_factory=_default_deadline)
    """When the answer must be complete, with a time zone. The turn is cancelled then."""

    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Id of the request, which the log of Portside contains too."""

    model: str = field(default_factory=_default_model)
    """Name of the agent's model."""

    max_tokens: int = field(default_factory=_default_max_tokens)
    """Maximum number of tokens of one answer of the model, as configured for the agent."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers that attribute a call to this turn. Send them with calls by other means than `turn.anthropic`."""

    mcp_url: str | None = field(default_factory=_default_mcp_url)
    """Address of the agent's tools, all in one MCP server (streamable HTTP); None if it has none. Send `headers`."""

    log: FilteringBoundLogger = field(default_factory=_default_log, repr=False, compare=False)
    """A logger (structlog) in the format of Portside's own log. Its lines contain the ids of the turn."""

    models: Models = field(default_factory=Models, repr=False, compare=False)
    """The connections behind `anthropic`, which all turns share."""

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline; 0 when it has passed."""
        return max(0.0, (self.deadline - datetime.now(UTC)).total_seconds())

    @property
    def anthropic(self) -> AsyncAnthropic:
        """A client of the model API, ready for use: without a key, through the gateway, with this turn's deadline.

        Its calls are attributed to this turn. It retries nothing, because the gateway does.
        """
        return self.models.client(self.headers, max(1.0, self.seconds_left))

    def messages(self) -> list[MessageParam]:
        """Return the history and the message in the form that the Messages API takes as `messages`."""
        messages: list[MessageParam] = []
        for each in (*self.history, Message("user", self.message)):
            if each.role == "user":
                messages.append({"role": "user", "content": each.content})
            else:
                messages.append({"role": "assistant", "content": each.content})
        return messages
