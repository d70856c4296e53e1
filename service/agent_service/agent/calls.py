"""Tool calls, side by side: those of a step, and those of a turn that goes on after approvals."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

import structlog

from agent_service.agent.pending import answer_without_call, lost_result
from agent_service.agent.tools import Caller, Resumption, Tool, Toolbox, ToolResult, ToolUse
from agent_service.agent.turn_messages import error_result
from agent_service.telemetry.logs import where

_log = structlog.get_logger(__name__)

# The calls of one step that are made at once. A model asks for a handful; more would only load the servers.
MOST_AT_ONCE = 16

# While tools are called, the turn is not silent. A quarter of the shortest time limit of a turn, one second.
_ALIVE_SECONDS = 0.25


class ToolCalls:
    """Makes the tool calls of turns."""

    def __init__(self, toolbox: Toolbox) -> None:
        """Take the tools."""
        self._toolbox = toolbox

    async def results(
        self, uses: Sequence[ToolUse], refused: Mapping[str, ToolResult], caller: Caller, results: list[ToolResult]
    ) -> AsyncGenerator[ToolResult | None]:
        """Make the calls side by side, and yield each result when it is there, and None while there is none.

        The `refused` calls are not made. Each result is added to `results`. Closing the generator cancels the calls.
        """
        slots = asyncio.Semaphore(MOST_AT_ONCE)

        async def call(use: ToolUse) -> ToolResult:
            async with slots:
                return await self._call(use, caller)

        for use in uses:
            if use.id in refused:
                results.append(refused[use.id])
                yield refused[use.id]
        tasks = [asyncio.create_task(call(use)) for use in uses if use.id not in refused]
        pending = set(tasks)
        try:
            while pending:
                done, pending = await asyncio.wait(pending, timeout=_ALIVE_SECONDS, return_when="FIRST_COMPLETED")
                for task in tasks:
                    if task in done:
                        results.append(task.result())
                        yield task.result()
                if not done:
                    yield None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def resumed(
        self, resumption: Resumption, tools: Mapping[str, Tool], caller: Caller, results: list[ToolResult]
    ) -> AsyncGenerator[ToolResult | None]:
        """Make the pending calls that were approved, as `results` does; the others get the reason why they are not.

        Of calls that another process started and gave no result, the model learns that they may have run. If no
        approver was asked about the pending calls, they still wait.

        Args:
            resumption: the turn, and the decisions.
            tools: the tools that there are now, by name.
            caller: on whose behalf the calls are made.
            results: gets all results, also those that the turn had before.
        """
        suspension = resumption.suspension
        results.extend(suspension.results)
        known = {result.id for result in results}
        for use_id in suspension.started:
            if use_id not in known:
                results.append(lost_result(use_id))
                yield results[-1]
        if resumption.decisions is None:
            return
        refused = {}
        for each in suspension.pending:
            content = answer_without_call(each, resumption.decisions.get(each.use.id), tools)
            if content is not None:
                refused[each.use.id] = ToolResult(each.use.id, content, is_error=True, outcome="not_approved")
        uses = [each.use for each in suspension.pending if each.use.id not in known]
        async with aclosing(self.results(uses, refused, replace(caller, approved=True), results)) as made:
            async for result in made:
                yield result

    async def _call(self, use: ToolUse, caller: Caller) -> ToolResult:
        try:
            return await self._toolbox.call(use, caller)
        except Exception as error:
            # Other calls of the turn may have had effects, so the model must learn of all of them.
            _log.error("Tool call failed unexpectedly", tool=use.name, error=type(error).__name__, where=where(error))
            return error_result(use, "The call failed because of an internal error. It may have run.")
