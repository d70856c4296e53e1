"""The messages of a turn, and its token usage."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent_service.agent.details import NO_DETAILS, Details, Message, text_of
from agent_service.agent.tools import Resumption

# Approximate characters per token of English text, for estimates where the model API counts nothing or fails before
# it has counted.
CHARACTERS_PER_TOKEN = 4

# Between the texts of a turn before and after tool calls.
BREAK = "\n\n"

_REPLACED = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One message of the user and the agent's answer.

    `steps` are the messages of the answer in the form of the Messages API, if tools were called in it.
    """

    user: str
    assistant: str
    steps: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question: the user's message, its system prompt, and the earlier exchanges, oldest first.

    `conversation_id` identifies the conversation; None for a question outside of any. `client` is who asks.
    `deadline` is in seconds since 1970; None until the turn begins, unless the caller has an earlier one.
    `token` is the caller's own credential, for tools that it is forwarded to. `resumption` has the turn so far of a
    question that waited for approvals. `details` has what the client sent besides the message.
    """

    message: str
    system: str | None = None
    history: tuple[Exchange, ...] = ()
    conversation_id: str | None = None
    client: str | None = None
    deadline: float | None = None
    token: str | None = field(default=None, repr=False)
    resumption: Resumption | None = None
    details: Details = NO_DETAILS

    @property
    def characters(self) -> int:
        """Total length of the text."""
        earlier = sum(len(exchange.user) + len(exchange.assistant) for exchange in self.history)
        sent = sum(len(text_of(message)) for message in self.details.earlier or ())
        return len(self.system or "") + earlier + sent + len(self.message)

    @property
    def question(self) -> Message:
        """The user's message in the form of the Messages API, with all of its content."""
        return {"role": "user", "content": list(self.details.content) or self.message}

    def messages(self) -> list[dict[str, str]]:
        """Return the texts of the exchanges and the message, as runtimes take them."""
        messages = [{"role": str(each["role"]), "content": text_of(each)} for each in self.details.earlier or ()]
        for exchange in self.history:
            messages.append({"role": "user", "content": exchange.user})
            messages.append({"role": "assistant", "content": exchange.assistant})
        messages.append({"role": "user", "content": self.message})
        return messages


@dataclass(slots=True)
class Usage:
    """Tokens of one turn. Updated while the answer arrives, so that an interrupted turn counts what it has used."""

    # The tokens sent, split into those that the model API wrote to its cache, those it read from it, and all others.
    uncached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    # Whether the model API has reported the final output count.
    output_known: bool = False
    # Whether the model API has the prompt, as far as is known. False while it rejects the call.
    sent: bool = False
    # Length of the answer's text so far.
    characters: int = 0
    # Whether the tokens are those of any number of calls, so that they do not measure the answer.
    of_many_calls: bool = False
    # The model API's stop reason (`end_turn`, `max_tokens`, …); None until the model stops.
    stop_reason: str | None = None
    # The provider that answers, and its model; None without fallbacks.
    provider: str | None = None
    model: str | None = None
    # Usage of calls that failed at other providers before an answer began.
    given_up: list["Usage"] = field(default_factory=list)

    @property
    def input_tokens(self) -> int:
        """Tokens sent."""
        return self.uncached_tokens + self.cache_write_tokens + self.cache_read_tokens

    @property
    def total(self) -> int:
        """Tokens sent plus tokens received."""
        return self.input_tokens + self.output_tokens

    def add(self, other: "Usage") -> None:
        """Add the tokens of `other`."""
        self.uncached_tokens += other.uncached_tokens
        self.cache_write_tokens += other.cache_write_tokens
        self.cache_read_tokens += other.cache_read_tokens
        self.output_tokens += other.output_tokens
        if other.provider is not None:
            self.provider, self.model = other.provider, other.model

    def give_up(self) -> None:
        """Set the usage so far aside as that of a call that failed, and start over."""
        if self.total:
            self.given_up.append(replace(self, given_up=[]))
        self.uncached_tokens = self.cache_write_tokens = self.cache_read_tokens = self.output_tokens = 0
        self.output_known = self.sent = False
        self.stop_reason = self.provider = self.model = None

    @property
    def answer_tokens(self) -> int:
        """Tokens of the answer itself; an estimate where `output_tokens` includes other calls."""
        return math.ceil(self.characters / CHARACTERS_PER_TOKEN) if self.of_many_calls else self.output_tokens

    @property
    def cut(self) -> str | None:
        """The model API's stop reason of an answer that was cut short; None when the answer is complete."""
        return None if self.stop_reason == "end_turn" else self.stop_reason


def sendable(text: str) -> str:
    """Return the text with surrogate pairs combined, and with lone surrogates and NUL replaced.

    JSON escapes can contain them. UTF-8 cannot encode surrogates, and requests with NUL are refused (`routes/chat.py`).
    """
    if "\0" in text:
        text = text.replace("\0", _REPLACED)
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def joined(text: str, rest: str) -> str:
    """Return the whole text of a turn, of which the `rest` came after tool calls."""
    return text + (BREAK if text and rest and not rest[0].isspace() else "") + rest


def is_blank(text: str) -> bool:
    """Return whether the text is only white space, which the model API refuses in any message."""
    return not text.strip()
