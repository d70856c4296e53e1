"""The MCP server of the agent, on the server side of the official SDK: its methods, without HTTP."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, cast

import mcp_types as types
import structlog
from mcp.server import Server, ServerRequestContext
from mcp.server.caching import CacheHint
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.requests import Request

from agent_service import __version__
from agent_service.agent.details import Details
from agent_service.agent.errors import ModelError, RateLimitedError
from agent_service.agent.messages import joined
from agent_service.agent.tools import Piece
from agent_service.agent.turn import OnPiece
from agent_service.chat.approval_errors import CannotWaitError, DecidedError, NotAllowedError, UnknownApprovalError
from agent_service.chat.approval_record import Place
from agent_service.chat.dialogue import Reply
from agent_service.compat.asking import question
from agent_service.compat.mcp import tool
from agent_service.compat.mcp.approving import Answers, answers, can_ask, questions
from agent_service.compat.mcp.cancellations import Cancellations
from agent_service.compat.mcp.exchange import exchange_of
from agent_service.compat.mcp.progress import Progress
from agent_service.components import Components
from agent_service.mcp_server.calls import CallCancelledError
from agent_service.routes.dependencies import owner, token
from agent_service.routes.errors import status_of
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.telemetry.exposition import exemplar
from agent_service.telemetry.logs import where

_log = structlog.get_logger(__name__)

_SERVER_ERROR = 500

# The tool changes with the agent's settings only, so with a restart.
_LIST_IS_FRESH = CacheHint(ttl_ms=60_000, scope="public")

_Context = ServerRequestContext[Any, Any]
_Ask = Callable[[OnPiece], Coroutine[Any, Any, Reply]]

# What is wrong with a question, or keeps this instance from answering it. The texts are for clients.
_REFUSALS = (
    ModelError,
    CannotWaitError,
    NotAllowedError,
    UnknownApprovalError,
    DecidedError,
    StateUnavailableError,
)


class AskServer:
    """Lists and calls the one tool of the agent."""

    def __init__(self, components: Components, cancellations: Cancellations) -> None:
        settings = components.settings
        self._components = components
        self._cancellations = cancellations
        self._tool = tool.definition(settings.agent_name, settings.agent_description)

    def protocol(self) -> Server[Any]:
        """Return the server of the SDK that has these methods."""
        server: Server[Any] = Server(
            self._components.settings.agent_name,
            version=__version__,
            instructions=tool.HOW,
            cache_hints={"tools/list": _LIST_IS_FRESH, "server/discover": _LIST_IS_FRESH},
            get_tool_input_schema=lambda name: self._tool.input_schema if name == tool.NAME else None,
            on_list_tools=self._list,
            on_call_tool=self._call,
        )
        # The SDK's spans have the text of exceptions. The request and the turn have spans of their own.
        server.middleware.clear()
        return server

    async def _list(self, _: _Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[self._tool])

    async def _call(
        self, context: _Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        if params.name != tool.NAME:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name[:64]}")
        try:
            given = answers(params)
            ask = self._asks(context, params) if given is None else self._goes_on(context, given)
        except (ValueError, ModelError) as error:
            return tool.failed(str(error))
        verdict = await self._components.limits.admit_tokens(owner(_request(context)))
        if verdict.refused is not None:
            self._components.metrics.rate_limited.labels(verdict.refused).inc()
            return tool.failed(self._components.limits.explain(verdict)[0])
        try:
            reply = await self._answer(context, ask)
        except _REFUSALS as error:
            return tool.failed(self._explained(error))
        if given is not None:
            reply = replace(reply, text=joined(given.text, reply.text))
        dismissed = given is not None and None in given.decisions.values()
        if reply.waiting and not dismissed and self._can_decide(context):
            return questions(reply.conversation_id, reply.text, reply.waiting)
        return tool.result_of(reply)

    def _asks(self, context: _Context, params: types.CallToolRequestParams) -> _Ask:
        request, dialogue = _request(context), self._components.dialogue
        arguments = tool.arguments_of(params)
        asked = question(
            request,
            self._components,
            arguments.message,
            Details(api="mcp"),
            conversation_id=arguments.conversation_id,
        )
        return lambda on_piece: dialogue.reply(owner(request), asked, on_piece, streamed=True)

    def _goes_on(self, context: _Context, given: Answers) -> _Ask:
        request, components = _request(context), self._components
        caller, place = owner(request), Place("chat", given.conversation_id)

        async def decide_and_go_on(on_piece: OnPiece) -> Reply:
            for call, decision in given.decisions.items():
                if decision is not None:
                    await components.approvals.decide(
                        call, place, caller, approve=decision.approve, reason=decision.reason
                    )
            return await components.dialogue.go_on(
                caller,
                given.conversation_id,
                given.turn_id,
                on_piece,
                streamed=True,
                token=token(request, components),
            )

        return decide_and_go_on

    async def _answer(self, context: _Context, ask: _Ask) -> Reply:
        """Return the reply, and report its progress. The turn ends with the request."""
        progress, metrics = Progress(context.session), self._components.metrics
        asked_at: float | None = time.perf_counter()

        async def on_piece(piece: Piece) -> None:
            nonlocal asked_at
            if asked_at is not None:
                metrics.first_token.observe(time.perf_counter() - asked_at, exemplar())
                asked_at = None
            await progress.piece(piece)

        exchange = exchange_of(_request(context).scope)
        call = asyncio.create_task(ask(on_piece))
        exchange.call = call
        try:
            return await self._cancellations.result(exchange.session, context.request_id, call, progress)
        except (*_REFUSALS, CallCancelledError):
            raise
        except Exception as error:
            metrics.stream_errors.inc()
            _log.error("Turn failed unexpectedly", error=type(error).__name__, where=where(error))
            raise MCPError(types.INTERNAL_ERROR, "An internal error occurred; the log has the error.") from None

    def _can_decide(self, context: _Context) -> bool:
        """Return whether the client can ask its user for decisions now, and its user may decide."""
        if context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            return False
        caller = owner(_request(context))
        return self._components.approvals.may_decide(caller, caller) and can_ask(context.session.client_capabilities)

    def _explained(self, error: Exception) -> str:
        # As with other answers: a 4xx, caused by the client or by a limit, is not a failure of the agent.
        if status_of(error) >= _SERVER_ERROR:
            self._components.metrics.stream_errors.inc()
        if isinstance(error, RateLimitedError) and error.retry_after is not None:
            return f"{error} Seconds to wait: {error.retry_after}."
        return str(error)


def _request(context: _Context) -> Request:
    return cast("Request", context.request)
