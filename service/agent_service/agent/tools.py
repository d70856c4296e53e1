"""The vocabulary of tools: what a model may call, its calls, and their results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as it is offered to a model.

    `name` is unique among all tools of the agent, and of the form that model APIs accept: `[A-Za-z0-9_-]{1,64}`.
    `input_schema` is a JSON Schema of type `object`. `server` is the name of the entry of `tools`, and `original` the
    name that the server uses. `asks` is whether each call needs an approval.
    """

    name: str
    description: str
    input_schema: Mapping[str, Any]
    server: str
    original: str
    asks: bool = False


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool call of the model. `id` is unique in its turn."""

    id: str
    name: str
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a tool call, or its error.

    `content` are blocks of the types that the Messages API takes in a `tool_result` (`text`, `image`, `document`), with
    at least one block. `outcome` is its label in the metrics.
    """

    id: str
    content: tuple[Mapping[str, Any], ...]
    is_error: bool = False
    outcome: str = "ok"


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a tool is called, and until when.

    `deadline` is in seconds since 1970. `token` is the caller's own credential, for servers that it is forwarded to.
    `approved` is whether an approver has approved the call.
    """

    deadline: float
    client: str | None = None
    token: str | None = field(default=None, repr=False)
    approved: bool = False


class Toolbox(Protocol):
    """The tools of an agent."""

    @property
    def server_tools(self) -> Sequence[Mapping[str, Any]]:
        """Tools that the model API runs itself, in its own form (`builtin` in the definition)."""
        ...

    async def tools(self) -> Sequence[Tool]:
        """Return the tools that can be called now, in a stable order.

        Raises:
            ModelError: when a server that the agent cannot do without is unavailable (`onUnavailable: fail`).
        """
        ...

    async def call(self, use: ToolUse, caller: Caller) -> ToolResult:
        """Call a tool and return its result. A call that fails has a result with the error, which is for the model."""
        ...


class NoTools:
    """The tools of an agent that has none of its own; a `Toolbox`."""

    server_tools: Sequence[Mapping[str, Any]] = ()

    async def tools(self) -> Sequence[Tool]:
        """Return no tools."""
        return ()

    async def call(self, use: ToolUse, caller: Caller) -> ToolResult:
        """Raise LookupError: there is no tool."""
        raise LookupError(use.name)


Piece = str | ToolUse | ToolResult
"""A piece of an answer: text, a tool call, or the result of one."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """The last thing that a turn with tool calls yields: its messages after the user's, for its conversation.

    They are in the form of the Messages API, and every tool call in them has its result.
    """

    messages: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that waits for an approval, with the tool as it was when the model called it."""

    use: ToolUse
    server: str
    original: str


@dataclass(frozen=True, slots=True)
class Suspension:
    """The end of a turn that waits for approvals, and all that it needs to go on.

    `messages` are those after the user's, and the last one has the calls. Each of them has its result in `results`,
    waits in `pending`, or is in `started`: it may have run. `steps` is the number of calls of the model, and `calls`
    the number of tool calls before that message.
    """

    messages: tuple[Mapping[str, Any], ...]
    results: tuple[ToolResult, ...]
    pending: tuple[PendingCall, ...]
    steps: int
    calls: int
    started: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """A complete step, before its calls are made: the turn can go on from here in another process.

    `tokens` is what the turn has used since it began, or went on.
    """

    suspension: Suspension
    tokens: int


Verdict = Literal["approved", "rejected", "expired", "lost"]
"""What became of a pending call. `lost`: it was approved and may have run, but its result is lost."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on a pending call, with the reason that the approver gave; empty if none."""

    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Resumption:
    """A suspended turn that goes on, with the decision on each pending call, by the id of the call.

    Without `decisions`, no approver was asked yet about the pending calls.
    """

    suspension: Suspension
    decisions: Mapping[str, Decision] | None


@dataclass(frozen=True, slots=True)
class Handover:
    """The end of a turn that calls tools of its client, which makes the calls itself."""

    calls: tuple[ToolUse, ...]


Last = Transcript | Suspension | Handover
"""What a turn yields last: its transcript, its suspension, or the calls that its client makes."""

Event = Piece | Last | Progress
"""What a turn yields."""
