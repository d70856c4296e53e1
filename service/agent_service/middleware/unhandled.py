"""Answer unexpected exceptions with JSON and status 500. The traceback is only in the log."""

import structlog
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_service.telemetry.logs import where

_log = structlog.get_logger(__name__)


class Unhandled:
    """Answers 500 for an exception that nothing else caught."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        except Exception as error:
            _log.error("Request failed unexpectedly", error=type(error).__name__, where=where(error))
            if started:
                # Part of the answer was sent. Only a broken connection can still show that it is incomplete.
                raise
            body = {"detail": "An internal error occurred; the log has the error under this request id."}
            await JSONResponse(body, status_code=500)(scope, receive, send)
