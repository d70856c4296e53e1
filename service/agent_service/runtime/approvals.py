"""Turns of a runtime whose tool calls wait for approvals.

The runtime cannot be stopped in the middle of its turn. Its call gets the answer that it waits, and the runtime ends
its answer. When the call is decided, the service makes it, and the result is the next message to the runtime.
"""

import json
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from agent_service.agent.calls import ToolCalls
from agent_service.agent.messages import Exchange, Prompt, is_blank
from agent_service.agent.tools import Caller, PendingCall, Resumption, Suspension, Toolbox, ToolResult
from agent_service.agent.turn_messages import result_block

_Message = Mapping[str, Any]

# The form that a model API requires of an answer without text, which a runtime may keep as such.
_NO_TEXT = "(waits for an approval)"


class ApprovedCalls:
    """Makes the calls that were approved."""

    def __init__(self, toolbox: Toolbox) -> None:
        """Take the tools."""
        self._toolbox = toolbox
        self._calls = ToolCalls(toolbox)

    async def make(
        self, resumption: Resumption, caller: Caller, results: list[ToolResult]
    ) -> AsyncGenerator[ToolResult | None]:
        """Make the calls that were approved, as `ToolCalls.resumed` does.

        Raises:
            ModelError: when a server is unavailable that the agent cannot do without.
        """
        tools = {tool.name: tool for tool in await self._toolbox.tools()}
        # A turn that is cancelled must cancel its calls at once.
        async with aclosing(self._calls.resumed(resumption, tools, caller, results)) as made:
            async for result in made:
                yield result


def suspension_of(before: Sequence[_Message], text: str, pending: Sequence[PendingCall]) -> Suspension:
    """Return the suspension of a turn.

    Args:
        before: messages of the turn after the user's, if it has waited before.
        text: the runtime's answer so far.
        pending: the calls that wait.
    """
    said = [] if is_blank(text) else [{"type": "text", "text": text}]
    uses = [{"type": "tool_use", "id": each.use.id, "name": each.use.name, "input": each.use.input} for each in pending]
    answer = {"role": "assistant", "content": [*said, *uses]}
    return Suspension((*before, answer), (), tuple(pending), steps=0, calls=0)


def messages_after(suspension: Suspension, results: Iterable[ToolResult]) -> tuple[_Message, ...]:
    """Return the messages of a turn after the user's, with the results of the calls that waited."""
    by_id = {result.id: result for result in results}
    answers = [result_block(by_id[each.use.id]) for each in suspension.pending]
    return (*suspension.messages, {"role": "user", "content": answers})


def prompt_after(prompt: Prompt, messages: Sequence[_Message]) -> Prompt:
    """Return the prompt that gives the runtime the results in the last of the turn's messages.

    What was said in the turn before is history, for a runtime that keeps none.
    """
    asked, history = prompt.message, list(prompt.history)
    for answer, results in zip(messages[::2], messages[1::2], strict=True):
        text = "".join(block["text"] for block in answer["content"] if block["type"] == "text")
        history.append(Exchange(asked, text or _NO_TEXT))
        uses = {block["id"]: block for block in answer["content"] if block["type"] == "tool_use"}
        asked = "\n\n".join(_in_words(uses[block["tool_use_id"]], block) for block in results["content"])
    return replace(prompt, message=asked, history=tuple(history))


def _in_words(use: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Return a call and its result in words. Other content than text is named by its type."""
    what = "failed" if result.get("is_error") else "has this result"
    given = json.dumps(use["input"], ensure_ascii=False)
    parts = [each["text"] if each["type"] == "text" else f"[{each['type']}]" for each in result["content"]]
    return (
        f"The call of the tool {use['name']} with the input {given}, which waited for an approval, {what}:\n"
        + "\n".join(parts)
    )
