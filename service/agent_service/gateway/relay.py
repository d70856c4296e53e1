"""Passes an answer on to the caller as it arrives. A caller that reads slowly slows the model API down."""

import aiohttp
import structlog
from aiohttp import web

from agent_service.gateway.meter import Meter
from agent_service.gateway.reply import Reply
from agent_service.telemetry.redact import for_log

_log = structlog.get_logger(__name__)

# A longer answer is passed on in pieces.
_WHOLE_BYTES = 2**16

_ERRORS = (aiohttp.ClientError, OSError)


async def relay(request: web.BaseRequest, reply: Reply, meter: Meter | None) -> tuple[web.StreamResponse, bool]:
    """Pass an answer on; return the response, and whether the answer was complete.

    Args:
        request: the caller's request.
        reply: the answer; it is closed in any case.
        meter: reads the usage in the answer; None for an answer without usage.

    Raises:
        ConnectionError: when the caller has left.
    """
    if reply.length is not None and reply.length <= _WHOLE_BYTES:
        return await _whole(request, reply, meter)
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    if reply.length is not None:
        response.content_length = reply.length
    try:
        await response.prepare(request)
        while True:
            try:
                chunk = await anext(reply.chunks, b"")
            except _ERRORS as error:
                _log.warning("Model API broke off its answer to the runtime", upstream=for_log(str(error)))
                _break_off(request)
                return response, False
            if not chunk:
                break
            if meter is not None:
                meter.feed(chunk)
            await response.write(chunk)
        await response.write_eof()
    finally:
        reply.close()
    return response, True


async def _whole(request: web.BaseRequest, reply: Reply, meter: Meter | None) -> tuple[web.StreamResponse, bool]:
    """Return a short answer in one piece, which takes half the time."""
    body, complete = b"", True
    try:
        async for chunk in reply.chunks:
            body += chunk
    except _ERRORS as error:
        _log.warning("Model API broke off its answer to the runtime", upstream=for_log(str(error)))
        _break_off(request)
        complete = False
    finally:
        reply.close()
    if meter is not None:
        meter.feed(body)
    return web.Response(body=body, status=reply.status, headers=reply.headers), complete


def _break_off(request: web.BaseRequest) -> None:
    """Close the connection without the end of the answer, which the caller would take for complete."""
    if request.transport is not None:
        request.transport.close()
