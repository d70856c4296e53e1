"""Tool calls that need an approval: which ones do, and what the model learns of those that are not made. Pure."""

from collections.abc import Container, Mapping, Sequence
from typing import Any

from agent_service.agent.tools import Decision, PendingCall, Tool, ToolResult, ToolUse

INPUT_REQUIRED = "input_required"
"""Stop reason of a turn that waits for approvals."""

_LOST = "may have run, but its result was lost. Its effects, if any, remain. Check before you repeat it."
_NOT_DECIDED = Decision("expired")


def pending_calls(
    uses: Sequence[ToolUse], tools: Mapping[str, Tool], refused: Container[str]
) -> tuple[PendingCall, ...]:
    """Return the calls that need an approval.

    Args:
        uses: calls of one step.
        tools: the tools by name.
        refused: ids of the calls that are not made anyway, and need no approval.
    """
    return tuple(
        PendingCall(use, tools[use.name].server, tools[use.name].original)
        for use in uses
        if use.name in tools and tools[use.name].asks and use.id not in refused
    )


def answer_without_call(
    call: PendingCall, decision: Decision | None, tools: Mapping[str, Tool]
) -> tuple[Mapping[str, Any], ...] | None:
    """Return the result of a pending call that is not made, for the model; None if it is made.

    The name must still mean the tool that was approved: servers may have come or gone since.
    """
    decision = decision or _NOT_DECIDED
    if decision.verdict == "approved":
        tool = tools.get(call.use.name)
        if tool is not None and (tool.server, tool.original) == (call.server, call.original):
            return None
        return _text("The call was approved, but did not run: the tool is no longer available.")
    if decision.verdict == "lost":
        return _text(f"The call was approved and {_LOST}")
    if decision.verdict == "expired":
        return _text(
            "The call did not run: there was no approval in time. Do not repeat it unless the user asks for it."
        )
    reason = f" Reason: {decision.reason}" if decision.reason else ""
    return _text(f"The call did not run: it was rejected.{reason}")


def lost_result(use_id: str) -> ToolResult:
    """Return the result, for the model, of a call that was started in a process that ended."""
    return ToolResult(use_id, _text(f"The call {_LOST}"), is_error=True, outcome="lost")


def _text(sentence: str) -> tuple[Mapping[str, Any], ...]:
    return ({"type": "text", "text": sentence},)
