"""The MCP server of the agent's tools, on the server side of the official SDK: its methods, without HTTP."""

import asyncio
import contextvars
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import mcp_types as types
import structlog
from mcp.server import NotificationOptions, Server, ServerRequestContext
from mcp.server.context import CallNext, HandlerResult
from mcp.server.models import InitializationOptions
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError
from opentelemetry import context as otel_context

from agent_service import __version__
from agent_service.agent.errors import ModelError
from agent_service.agent.tools import Caller, PendingCall, Toolbox, ToolResult, ToolUse
from agent_service.agent.turns import Turn, Turns
from agent_service.gateway.attribution import parent_of, turn_of
from agent_service.gateway.mcp import content
from agent_service.gateway.mcp.changes import Changes
from agent_service.mcp_server.calls import CallCancelledError, Calls
from agent_service.mcp_server.sessions import SESSION
from agent_service.telemetry.logs import where

if TYPE_CHECKING:
    from starlette.requests import Request

_log = structlog.get_logger(__name__)

Context = ServerRequestContext[Any, Any]


class ToolServer:
    """Lists and calls the tools for the runtime."""

    def __init__(
        self, toolbox: Toolbox, turns: Turns, *, most_calls_of_turn: int, call_seconds: float, most_listeners: int
    ) -> None:
        """Set up the server.

        Args:
            toolbox: the tools.
            turns: the turns in progress.
            most_calls_of_turn: largest number of tool calls in one turn.
            call_seconds: limit of a call that belongs to no turn, in seconds.
            most_listeners: largest number of clients that wait for changes of the list.
        """
        self.changes = Changes(toolbox)
        self.listeners = ListenHandler(self.changes, max_subscriptions=most_listeners)
        self._toolbox = toolbox
        self._turns = turns
        self._most_calls_of_turn = most_calls_of_turn
        self._call_seconds = call_seconds
        self._calls: Calls[ToolResult] = Calls()
        self._schemas: dict[str, Mapping[str, Any]] = {}

    def protocol(self) -> Server[Any]:
        """Return the server of the SDK that has these methods."""
        server = _Server(
            "portside",
            version=__version__,
            get_tool_input_schema=self._schemas.get,
            on_list_tools=self._list,
            on_call_tool=self._call,
            on_subscriptions_listen=self.listeners,
        )
        # In place of the SDK's spans, which have the text of exceptions: the toolbox makes a span for each call.
        server.middleware[:] = [_report_answer]
        return server

    def cancel(self, session: str, request: object) -> None:
        """Cancel a call by the id of its request in a session."""
        self._calls.cancel(session, request)

    async def _list(self, _: Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        try:
            tools = await self._toolbox.tools()
        except ModelError as error:
            raise MCPError(types.INTERNAL_ERROR, str(error)) from None
        self._schemas.clear()
        self._schemas.update({tool.name: tool.input_schema for tool in tools})
        return types.ListToolsResult(tools=content.listed(tools))

    async def _call(self, context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        attributes = _attributes(context)
        turn: Turn | None = _request(context).state.turn or turn_of(attributes, self._turns)
        if turn is not None:
            if turn.tool_calls >= self._most_calls_of_turn:
                _log.warning("Tool call was refused: the turn has used all of its calls", tool=params.name)
                return content.failed(
                    f"This turn has reached its limit of tool calls ({self._most_calls_of_turn}). "
                    "No more tools can be called; answer with what is known."
                )
            turn.tool_calls += 1
        use = ToolUse(f"call_{secrets.token_hex(12)}", params.name, params.arguments or {})
        result = await self._run(context, use, attributes, turn)
        if result.outcome == "not_approved" and turn is not None:
            return await self._wait(use, turn)
        if result.outcome == "unknown_tool":
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
        return content.result_of(result)

    async def _wait(self, use: ToolUse, turn: Turn) -> types.CallToolResult:
        """Add a call to those for whose approval the turn waits when it has ended."""
        tool = next((each for each in await self._toolbox.tools() if each.name == use.name), None)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {use.name}")
        # A client repeats a request whose answer it has not received.
        if all((each.use.name, each.use.input) != (use.name, use.input) for each in turn.pending):
            turn.pending.append(PendingCall(use, tool.server, tool.original))
        return content.text(
            "This call has not run. It waits for an approval, and runs when it has one. Do not repeat it. "
            "End the answer now: its result, or the reason why it did not run, comes as the next message."
        )

    async def _run(
        self, context: Context, use: ToolUse, attributes: Mapping[str, str], turn: Turn | None
    ) -> ToolResult:
        if turn is None:
            caller = Caller(time.time() + self._call_seconds)
        else:
            caller = Caller(turn.deadline, turn.client, turn.token)
        # The span of the call belongs to the caller's trace.
        traced = contextvars.copy_context()
        traced.run(otel_context.attach, parent_of(attributes, turn))
        started = time.monotonic()
        call = asyncio.create_task(self._toolbox.call(use, caller), context=traced)
        session = _request(context).headers.get(SESSION, "")

        async def beat() -> None:
            await context.session.report_progress(time.monotonic() - started, message="The tool is running.")

        try:
            return await self._calls.result(session, context.request_id, call, beat)
        except CallCancelledError:
            raise
        except Exception as error:
            _log.error("Tool call of the runtime failed", error=type(error).__name__, where=where(error))
            raise MCPError(types.INTERNAL_ERROR, "The gateway failed; its log says why.") from None


async def _report_answer(ctx: Context, call_next: CallNext) -> HandlerResult:
    """Report that a request has its answer: some clients leave without waiting for the end of the response."""
    try:
        return await call_next(ctx)
    finally:
        _request(ctx).state.on_answer()


class _Server(Server[Any]):
    """The SDK's server, which declares that it reports changes of the list in the revision with sessions, too."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """Return what the answer to `initialize` contains."""
        options = notification_options or NotificationOptions(tools_changed=True)
        return super().create_initialization_options(options, experimental_capabilities, extensions)


def _request(context: Context) -> "Request":
    return cast("Request", context.request)


def _attributes(context: Context) -> dict[str, str]:
    """Return what identifies the turn and the span of a call: its headers, else its `_meta` (SEP-414)."""
    meta = (context.params or {}).get("_meta")
    found = {name: value for name, value in meta.items() if isinstance(value, str)} if isinstance(meta, dict) else {}
    return {**found, **_request(context).headers}
