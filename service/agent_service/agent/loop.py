"""The tool loop: the model is asked, its tool calls are made, and it is asked again with their results.

This is the loop of the Messages API (Claude docs, "Tool use"). It works with any provider of that API.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import orjson
import structlog

from agent_service.agent.errors import BudgetUsedUpError
from agent_service.agent.messages import CHARACTERS_PER_TOKEN, Prompt, Usage, is_blank
from agent_service.agent.provider import Waiting
from agent_service.agent.step import Step, StepProvider
from agent_service.agent.tools import Caller, Piece, Tool, Toolbox, ToolResult, ToolUse, Transcript

_log = structlog.get_logger(__name__)

# The calls of one step that are made at once. A model asks for a handful; more would only load the servers.
_MOST_AT_ONCE = 16

# While tools are called, the turn is not silent.
_ALIVE_SECONDS = 1.0

_TOOL_USE, _PAUSED, _ENDED = "tool_use", "pause_turn", "end_turn"
_MAX_STEPS, _MAX_TOOL_CALLS = "max_steps", "max_tool_calls"

# Only the turn in which the model thinks needs its thoughts.
_THOUGHTS = frozenset({"thinking", "redacted_thinking"})


class ToolLoop:
    """A provider whose turns may have several calls of the model, with tool calls between them."""

    def __init__(
        self,
        provider: StepProvider,
        toolbox: Toolbox,
        *,
        max_steps: int,
        max_tool_calls: int,
        charge: Callable[[Usage], None],
        budget_wait: Callable[[], Awaitable[float]],
    ) -> None:
        """Set up the loop.

        Args:
            provider: the provider of the model.
            toolbox: the tools.
            max_steps: limit of calls of the model in one turn. The last one may call no tools.
            max_tool_calls: limit of tool calls in one turn. After them, the model may call no more.
            charge: is called with the usage of each call of the model.
            budget_wait: returns the seconds until the agent may use more of its budget; 0 if it may now.
        """
        self.model = provider.model
        self._provider = provider
        self._toolbox = toolbox
        self._max_steps = max_steps
        self._max_tool_calls = max_tool_calls
        self._charge = charge
        self._budget_wait = budget_wait

    async def stream(self, prompt: Prompt, usage: Usage, waiting: Waiting) -> AsyncGenerator[Piece]:
        """Yield the texts of all steps, and each tool call and its result; at last the transcript, if there were any.

        Raises:
            ModelError: when a step fails, a server that is needed is unavailable, or the budget is used up.
        """
        turn = _Turn(self._toolbox.server_tools, await self._toolbox.tools(), prompt)
        for number in range(1, self._max_steps + 1):
            bound = self._bound(number, turn)
            step = turn.step(may_call=bound is None)
            async with aclosing(self._step(step, usage, waiting)) as pieces:
                async for text in pieces:
                    yield text
            uses = turn.answered(step, usage.stop_reason)
            if usage.stop_reason == _PAUSED:
                continue
            if bound is not None and usage.stop_reason == _ENDED:
                usage.stop_reason = bound
            if not uses:
                break
            usage.of_many_calls = True
            for use in uses:
                yield use
            async with aclosing(self._results(uses, step, turn)) as results:
                async for result in results:
                    yield result
            await self._check_budget()
        transcript = turn.transcript()
        if transcript is not None:
            yield transcript

    async def check(self) -> None:
        """Check whether the model can answer."""
        await self._provider.check()

    async def close(self) -> None:
        """Close all connections to the model."""
        await self._provider.close()

    def _bound(self, number: int, turn: "_Turn") -> str | None:
        """Return the bound by which this step may call no tools; None if it may."""
        if turn.calls >= self._max_tool_calls:
            return _MAX_TOOL_CALLS
        return _MAX_STEPS if number == self._max_steps else None

    async def _step(self, step: Step, usage: Usage, waiting: Waiting) -> AsyncGenerator[str]:
        """Yield the text of a step. Its usage is charged and added to that of the turn, however it ends."""
        one = Usage()
        try:
            async with aclosing(self._provider.step(step, one, waiting)) as pieces:
                async for text in pieces:
                    one.characters += len(text)
                    yield text
        finally:
            _complete(one, step)
            usage.add(one)
            usage.sent |= one.sent
            usage.output_known = True
            usage.stop_reason = one.stop_reason
            self._charge(one)

    async def _results(self, uses: Sequence[ToolUse], step: Step, turn: "_Turn") -> AsyncGenerator[Piece]:
        """Make the calls side by side, and yield each result when it is there, and empty texts meanwhile."""
        slots = asyncio.Semaphore(_MOST_AT_ONCE)

        async def call(use: ToolUse, left: int) -> ToolResult:
            refused = turn.refusal(use, unreadable=use.id in step.unreadable)
            if refused is None and left <= 0:
                refused = f"This turn has reached its limit of {self._max_tool_calls} tool calls."
            if refused is not None:
                return _error(use, refused)
            async with slots:
                return await self._toolbox.call(use, turn.caller)

        left = self._max_tool_calls - turn.calls
        tasks = [asyncio.create_task(call(use, left - number)) for number, use in enumerate(uses)]
        waiting: set[asyncio.Task[ToolResult]] = set(tasks)
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, timeout=_ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                yield ""
                for task in tasks:
                    if task in done:
                        yield task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        turn.called([task.result() for task in tasks])

    async def _check_budget(self) -> None:
        wait = await self._budget_wait()
        if wait:
            message = "This agent used up its budget in the middle of the turn; the answer is incomplete."
            raise BudgetUsedUpError(message, math.ceil(wait))


class _Turn:
    """The messages of a turn so far. `calls` is the number of tool calls."""

    def __init__(self, server_tools: Sequence[Mapping[str, Any]], tools: Sequence[Tool], prompt: Prompt) -> None:
        self.caller = Caller(prompt.deadline or math.inf, prompt.client, prompt.token)
        self.calls = 0
        self._system = prompt.system
        self._names = {tool.name for tool in tools}
        self._tools = [*map(_definition, tools), *server_tools]
        self._messages = prompt.messages(with_steps=bool(self._tools))
        self._first = len(self._messages)

    def step(self, *, may_call: bool) -> Step:
        """Return the next step."""
        return Step(self._system, list(self._messages), self._tools, may_call)

    def answered(self, step: Step, stop_reason: str | None) -> list[ToolUse]:
        """Add the answer of a step, and return the tool calls in it, which must be made."""
        calls = stop_reason == _TOOL_USE
        content = [block for block in step.content if _can_be_sent(block) and (calls or block["type"] != _TOOL_USE)]
        if content:
            self._messages.append({"role": "assistant", "content": content})
        found = [block for block in content if block["type"] == _TOOL_USE]
        return [ToolUse(str(block["id"]), str(block["name"]), block["input"]) for block in found]

    def called(self, results: Sequence[ToolResult]) -> None:
        """Add the results of the calls of a step, in the order of the calls."""
        self.calls += len(results)
        self._messages.append({"role": "user", "content": [_block(result) for result in results]})

    def refusal(self, use: ToolUse, *, unreadable: bool) -> str | None:
        """Return why a call cannot be made, for the model; None if it can."""
        if use.name not in self._names:
            return f"There is no tool {use.name}. The tools are: {', '.join(sorted(self._names)) or 'none'}."
        return "The input of this call is not a JSON object; call the tool again." if unreadable else None

    def transcript(self) -> Transcript | None:
        """Return the transcript; None for a turn that is only a text."""
        messages = [_without_thoughts(message) for message in self._messages[self._first :]]
        messages = [message for message in messages if message["content"]]
        blocks = [block for message in messages for block in message["content"]]
        return Transcript(tuple(messages)) if any(block["type"] != "text" for block in blocks) else None


def _definition(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}


def _block(result: ToolResult) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": result.id, "content": list(result.content)}
    return {**block, "is_error": True} if result.is_error else block


def _error(use: ToolUse, sentence: str) -> ToolResult:
    return ToolResult(use.id, ({"type": "text", "text": sentence},), is_error=True, outcome="invalid")


def _can_be_sent(block: Mapping[str, Any]) -> bool:
    """Return whether the model API accepts a block back: it refuses texts that are only white space."""
    return block.get("type") != "text" or not is_blank(str(block.get("text", "")))


def _without_thoughts(message: Mapping[str, Any]) -> dict[str, Any]:
    return {**message, "content": [block for block in message["content"] if block["type"] not in _THOUGHTS]}


def _complete(usage: Usage, step: Step) -> None:
    """Estimate what the model API has not counted, as of a step that was cut short."""
    if not usage.output_known:
        usage.output_tokens = max(usage.output_tokens, math.ceil(usage.characters / CHARACTERS_PER_TOKEN))
    if (usage.sent or usage.characters) and not usage.input_tokens:
        size = len(orjson.dumps([step.messages, step.tools])) + len(step.system or "")
        usage.uncached_tokens = math.ceil(size / CHARACTERS_PER_TOKEN)
