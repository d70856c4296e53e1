"""One call of the model within a turn that has several of them, as a provider with tools answers it."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard

from agent_service.agent.messages import Usage
from agent_service.agent.provider import Provider, Waiting


@dataclass(slots=True)
class Step:
    """A question in the form of the Messages API, and the blocks of its answer.

    `tools` are the definitions of the tools, of which the model may use none if `may_call` is false; otherwise,
    `tool_choice` is the client's choice among them. `max_tokens` is a limit of the answer below the provider's own. The
    provider fills `content` while the answer arrives, with blocks that can be sent back unchanged. `unreadable` are the
    ids of the calls whose input is no JSON object; their block has an empty one. `conversation` is the id of the
    conversation, None outside of any.
    """

    system: str | None
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    may_call: bool = True
    max_tokens: int | None = None
    tool_choice: Mapping[str, Any] | None = None
    conversation: str | None = None
    content: list[dict[str, Any]] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)


class StepProvider(Provider, Protocol):
    """A provider whose model can call tools."""

    def step(self, step: Step, usage: Usage, waiting: Waiting) -> AsyncGenerator[str]:
        """Yield the text of the answer piece by piece, as `stream` does, and fill `step.content`."""
        ...


def takes_tools(provider: Provider) -> TypeGuard[StepProvider]:
    """Return whether the model of a provider can call tools."""
    return hasattr(provider, "step")
