"""The HTTP interface of the file: the protocol `invocations`, as in Bedrock AgentCore."""

from contextlib import aclosing

import structlog
from aiohttp import web

from agent_service.python_file import turns
from agent_service.python_file.agent_file import AgentFile
from agent_service.python_file.answer_function import Loaded
from agent_service.python_file.answering import AnswerError, pieces_of
from agent_service.python_file.callers import BROKEN, refusal
from agent_service.python_file.events import Events
from agent_service.python_file.loading import FileError
from agent_service.python_file.ping import ping
from portside import Turn
from portside.models import Models

_log = structlog.get_logger(__name__)

_MOST_BODY_BYTES = 16 * 2**20


def create(agent: AgentFile[Loaded], models: Models, *, loopback_only: bool) -> web.Application:
    """Return the application.

    Args:
        agent: the file.
        models: the connections to the model API.
        loopback_only: refuse turns of callers on other machines; `GET /ping` is answered to all.
    """
    handlers = _Handlers(agent, models, loopback_only=loopback_only)
    app = web.Application(client_max_size=_MOST_BODY_BYTES)
    app.add_routes([web.post("/invocations", handlers.invoke), web.get("/ping", handlers.ping)])
    return app


class _Handlers:
    def __init__(self, agent: AgentFile[Loaded], models: Models, *, loopback_only: bool) -> None:
        self._agent = agent
        self._models = models
        self._loopback_only = loopback_only

    async def ping(self, _: web.Request) -> web.Response:
        """Report whether turns can be answered."""
        status, body = ping(self._agent)
        return web.json_response(body, status=status)

    async def invoke(self, request: web.Request) -> web.StreamResponse:
        """Answer a turn: as events if the function yields pieces or the caller accepts events, else as JSON."""
        if fault := refusal(request.headers, request.remote, loopback_only=self._loopback_only):
            return _error(403, fault)
        try:
            turn = turns.read(await request.read(), request.headers, self._models)
            loaded = self._agent.current()
        except turns.RequestError as error:
            return _error(400, str(error))
        except FileError:
            return _error(500, BROKEN)
        if loaded.yields or "text/event-stream" in request.headers.get("Accept", ""):
            return await self._stream(request, loaded, turn)
        return await self._complete(loaded, turn)

    async def _complete(self, loaded: Loaded, turn: Turn) -> web.Response:
        try:
            async with aclosing(pieces_of(loaded, turn, self._agent.path)) as pieces:
                return web.json_response({"response": "".join([piece async for piece in pieces])})
        except AnswerError as error:
            return _error(500, str(error))

    async def _stream(self, request: web.Request, loaded: Loaded, turn: Turn) -> web.StreamResponse:
        events = Events(request)
        try:
            async with events.heartbeats(), aclosing(pieces_of(loaded, turn, self._agent.path)) as pieces:
                async for piece in pieces:
                    await events.send(piece)
        except AnswerError as error:
            if not events.started:
                return _error(500, str(error))
            await events.send({"type": "error", "message": str(error)})
        else:
            await events.send({"type": "done"})
        return await events.end()


def _error(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)
