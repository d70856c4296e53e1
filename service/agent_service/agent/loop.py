"""The tool loop: the model is asked, its tool calls are made, and it is asked again with their results.

This is the loop of the Messages API (Claude docs, "Tool use"). It works with any provider of that API.
"""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

import orjson
import structlog

from agent_service.agent.calls import ToolCalls
from agent_service.agent.counting import can_count_steps
from agent_service.agent.messages import BREAK, CHARACTERS_PER_TOKEN, Prompt, Usage
from agent_service.agent.pending import INPUT_REQUIRED, pending_calls
from agent_service.agent.provider import Waiting
from agent_service.agent.step import Step, StepProvider
from agent_service.agent.tools import Caller, Event, Progress, Resumption, Suspension, Toolbox, ToolResult, ToolUse
from agent_service.agent.turn_messages import TurnMessages, error_result

_log = structlog.get_logger(__name__)

_PAUSED, _CALLS = "pause_turn", "tool_use"

# Stop reasons of ours.
MAX_STEPS, MAX_TOOL_CALLS, BUDGET = "max_steps", "max_tool_calls", "budget"
# Stop reasons of the model that a bound explains better.
_EXPLAINED = frozenset({"end_turn", _PAUSED, _CALLS})


class ToolLoop:
    """A provider whose turns may have several calls of the model, with tool calls between them."""

    def __init__(
        self,
        provider: StepProvider,
        toolbox: Toolbox,
        *,
        max_steps: int,
        max_tool_calls: int,
        charge: Callable[[Usage, str | None], None],
        budget_wait: Callable[[str | None], Awaitable[float]],
    ) -> None:
        """Set up the loop.

        Args:
            provider: the provider of the model.
            toolbox: the tools.
            max_steps: limit of calls of the model in one turn. The last one may call no tools.
            max_tool_calls: limit of tool calls in one turn. After them, the model is asked a last time, without tools.
            charge: called with the usage of each call of the model, and the client of the turn.
            budget_wait: returns the seconds until the client of the turn may use more of the budgets; 0 if it may now.
        """
        self.model = provider.model
        self._provider = provider
        self._toolbox = toolbox
        self._tool_calls = ToolCalls(toolbox)
        self._max_steps = max_steps
        self._max_tool_calls = max_tool_calls
        self._charge = charge
        self._budget_wait = budget_wait

    async def stream(self, prompt: Prompt, usage: Usage, waiting: Waiting) -> AsyncGenerator[Event]:
        """Yield the texts of all steps, each tool call and its result, and at the end the transcript if there were any.

        Before the calls of a step are made, its progress is yielded.

        A turn that reaches a bound ends with a stop reason of ours: `max_steps`, `max_tool_calls` or `budget`.

        A turn with calls that need an approval makes the other calls of the step, and ends with its suspension. It goes
        on with the results of the pending calls when `prompt.resumption` has the decisions on them.

        A turn whose model calls tools of the client ends with these calls, which are not made here.

        Raises:
            ModelError: when a step fails, a server is unavailable that the agent cannot do without, or a tool of the
                client has the name of one of the agent's.
        """
        turn = TurnMessages(prompt, await self._toolbox.tools(), self._toolbox.server_tools)
        caller = Caller(math.inf if prompt.deadline is None else prompt.deadline, prompt.client, prompt.token)
        breaks = _Breaks()
        async with aclosing(self._resumed(turn, prompt.resumption, usage, caller)) as made:
            async for result in made:
                yield result or ""
        first = turn.steps + 1
        for number in range(first, max(first, self._max_steps) + 1):
            if turn.suspension is not None:
                break
            turn.steps = number
            bound = self._bound(turn)
            step = turn.step(may_call=bound is None)
            async with aclosing(self._step(step, usage, waiting, prompt.client)) as texts:
                async for text in texts:
                    yield breaks.before(text) + text if text else text
            goes_on = usage.stop_reason == _PAUSED and bound is None
            uses = turn.add_answer(step, calls=usage.stop_reason == _CALLS and bound is None)
            usage.stop_reason = _explained(usage.stop_reason, bound)
            if turn.handover is not None or not (uses or goes_on):
                break
            usage.of_many_calls = True
            async with aclosing(self._calls(turn, step, uses, usage, caller)) as pieces:
                async for piece in pieces:
                    yield piece
            breaks.due = bool(uses)
            if turn.suspension is None and await self._budget_wait(prompt.client):
                _log.info("Turn was ended: the budget is used up", steps=turn.steps, tool_calls=turn.calls)
                usage.stop_reason = BUDGET
                break
        last = turn.suspension or turn.handover or turn.transcript()
        if last is not None:
            yield last

    async def count(self, prompt: Prompt) -> int | None:
        """Return the tokens that the model would receive in the first step of a turn; None if they cannot be counted.

        Raises:
            ModelError: as `stream` does.
        """
        if not can_count_steps(self._provider):
            return None
        turn = TurnMessages(prompt, await self._toolbox.tools(), self._toolbox.server_tools)
        return await self._provider.count_step(turn.step(may_call=True))

    async def check(self) -> None:
        """Check whether the model can answer; raise a ModelError if not."""
        await self._provider.check()

    async def close(self) -> None:
        """Close all connections to the model."""
        await self._provider.close()

    def _bound(self, turn: TurnMessages) -> str | None:
        """Return the bound by which this step may call no tools; None if it may."""
        if turn.calls >= self._max_tool_calls:
            return MAX_TOOL_CALLS
        return MAX_STEPS if turn.has_tools and turn.steps >= self._max_steps else None

    async def _step(self, step: Step, usage: Usage, waiting: Waiting, client: str | None) -> AsyncGenerator[str]:
        """Yield the text of a step. Its usage is charged, and added to that of the turn, however it ends."""
        one = Usage()
        try:
            async with aclosing(self._provider.step(step, one, waiting)) as texts:
                async for text in texts:
                    one.characters += len(text)
                    yield text
        finally:
            _estimate(one, step)
            usage.add(one)
            usage.sent |= one.sent
            usage.output_known = True
            usage.stop_reason = one.stop_reason
            self._charge(one, client)

    def _refused(self, turn: TurnMessages, step: Step, uses: Sequence[ToolUse], *, left: int) -> dict[str, ToolResult]:
        """Return the results of the calls that are not made, by id: those beyond the first `left`, and invalid ones."""
        limit = f"This turn has reached its limit of {self._max_tool_calls} tool calls."
        refused = {}
        for number, use in enumerate(uses):
            reason = turn.refusal(use, step) if number < left else limit
            if reason is not None:
                refused[use.id] = error_result(use, reason)
        return refused

    async def _calls(
        self,
        turn: TurnMessages,
        step: Step,
        uses: Sequence[ToolUse],
        usage: Usage,
        caller: Caller,
    ) -> AsyncGenerator[Event]:
        """Make the calls of a step: yield them, the progress of the turn, and each result.

        With calls that need an approval, the turn is suspended.
        """
        if not uses:
            return
        for use in uses:
            yield use
        refused = self._refused(turn, step, uses, left=self._max_tool_calls - turn.calls)
        pending = pending_calls(uses, turn.tools, refused)
        waits = {each.use.id for each in pending}
        now = [use for use in uses if use.id not in waits]
        started = tuple(use.id for use in now if use.id not in refused)
        so_far = Suspension(turn.so_far(), tuple(refused.values()), pending, turn.steps, turn.calls, started)
        yield Progress(so_far, usage.total)
        results: list[ToolResult] = []
        async with aclosing(self._tool_calls.results(now, refused, caller, results)) as made:
            async for result in made:
                yield result or ""
        if pending:
            turn.suspend(replace(so_far, results=tuple(results), started=()))
            usage.stop_reason = INPUT_REQUIRED
        else:
            turn.add_results(uses, results)
            turn.calls += len(uses)

    async def _resumed(
        self, turn: TurnMessages, resumption: Resumption | None, usage: Usage, caller: Caller
    ) -> AsyncGenerator[ToolResult | None]:
        """Make the pending calls that were approved, and yield the result of each, or why there is none.

        A turn that was not suspended has none. One whose pending calls no approver was asked about is suspended.
        """
        if resumption is None:
            return
        usage.of_many_calls = True
        results: list[ToolResult] = []
        async with aclosing(self._tool_calls.resumed(resumption, turn.tools, caller, results)) as made:
            async for result in made:
                yield result
        suspension = resumption.suspension
        if suspension.pending and resumption.decisions is None:
            turn.suspend(replace(suspension, results=tuple(results), started=()))
            usage.stop_reason = INPUT_REQUIRED
        else:
            turn.resume(suspension, results)


class _Breaks:
    """Separates the texts of steps between which tools were called. `due` is whether a break is."""

    def __init__(self) -> None:
        self.due = False
        self._any = False

    def before(self, text: str) -> str:
        """Return what goes before a text."""
        found = BREAK if self.due and self._any and not text[0].isspace() else ""
        self.due, self._any = False, True
        return found


def _explained(stop_reason: str | None, bound: str | None) -> str | None:
    return bound if bound is not None and stop_reason in _EXPLAINED else stop_reason


def _estimate(usage: Usage, step: Step) -> None:
    """Estimate what the model API has not counted, as of a step that was cut short."""
    if not usage.output_known:
        usage.output_tokens = max(usage.output_tokens, math.ceil(usage.characters / CHARACTERS_PER_TOKEN))
    if (usage.sent or usage.characters) and not usage.input_tokens:
        size = len(orjson.dumps([step.messages, step.tools])) + len(step.system or "")
        usage.uncached_tokens = math.ceil(size / CHARACTERS_PER_TOKEN)
