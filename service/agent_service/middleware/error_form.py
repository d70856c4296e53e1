"""Put errors and limits into the form of the client's protocol, whichever layer answers."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_service.paths import Paths

_FIRST_ERROR = 400
_INVALID, _BAD_REQUEST = 422, 400


@dataclass(frozen=True, slots=True)
class Problem:
    """An error: its status, a sentence, the field that it is about if there is one, and the id of the request.

    `retry_after` is in seconds, if the client should retry.
    """

    status: int
    detail: str
    field: str | None
    request_id: str
    retry_after: int | None


class Form(Protocol):
    """The form of one protocol. Its errors have the status 400 where ours have 422."""

    def error(self, problem: Problem) -> Mapping[str, Any]:
        """Return the body of an error."""
        ...

    def headers(self, limit: int, remaining: int, reset: int, request_id: str) -> Mapping[str, str]:
        """Return the headers for a limit of requests; `reset` is the number of seconds until all are available."""
        ...

    def plain_headers(self, request_id: str) -> Mapping[str, str]:
        """Return the headers of every answer."""
        ...


class ErrorForm:
    """Rewrites the JSON errors of all layers below, on the paths of protocols that have a form."""

    def __init__(self, app: ASGIApp, *, paths: Paths, forms: Mapping[str, Form]) -> None:
        """Wrap the app. `forms` are those of the protocols, by name."""
        self.app = app
        self.paths = paths
        self.forms = forms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        form = self.forms.get(self.paths.protocol(scope["path"]) or "") if scope["type"] == "http" else None
        if form is None:
            await self.app(scope, receive, send)
            return
        await self.app(scope, receive, _rewriting(form, send))


def _rewriting(form: Form, send: Send) -> Callable[[Message], Any]:
    start: Message | None = None
    body = b""

    async def send_rewritten(message: Message) -> None:
        nonlocal start, body
        if message["type"] == "http.response.start":
            _add_headers(form, message)
            if message["status"] < _FIRST_ERROR or not _is_json(message):
                await send(message)
                return
            start = message
            return
        if start is None:
            await send(message)
            return
        body += message.get("body", b"")
        if message.get("more_body", False):
            return
        written = _rewritten(form, start, body)
        await send(start)
        await send({"type": "http.response.body", "body": written})

    return send_rewritten


def _is_json(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type", "").startswith("application/json")


def _rewritten(form: Form, start: Message, body: bytes) -> bytes:
    """Return the body in the protocol's form, and change the start of the answer to fit. Another body stays."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, LookupError, TypeError):
        return body
    headers = MutableHeaders(raw=start["headers"])
    retry_after = headers.get("retry-after", "")
    if start["status"] == _INVALID:
        start["status"] = _BAD_REQUEST
    problem = Problem(
        start["status"],
        _sentence(detail),
        _field(detail),
        _request_id(),
        int(retry_after) if retry_after.isdecimal() else None,
    )
    written = json.dumps(form.error(problem), ensure_ascii=False, separators=(",", ":")).encode()
    headers["content-length"] = str(len(written))
    start["headers"] = headers.raw
    return written


def _add_headers(form: Form, start: Message) -> None:
    headers = MutableHeaders(raw=list(start.get("headers", ())))
    values = [headers.get(f"x-ratelimit-{name}", "") for name in ("limit", "remaining", "reset")]
    request_id = _request_id()
    found = dict(form.plain_headers(request_id))
    if all(value.isdecimal() for value in values):
        found |= form.headers(int(values[0]), int(values[1]), int(values[2]), request_id)
    for name, value in found.items():
        headers[name] = value
    start["headers"] = headers.raw


def _request_id() -> str:
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))


def _sentence(detail: object) -> str:
    """Return one sentence for the detail of an error, which is a text or a list of faults."""
    if not isinstance(detail, list):
        return str(detail)
    return "; ".join(f"{_location(fault) or 'body'}: {fault.get('msg')}" for fault in detail)


def _field(detail: object) -> str | None:
    return (_location(detail[0]) or None) if isinstance(detail, list) and detail else None


def _location(fault: Mapping[str, Any]) -> str:
    """Return the path of the field that a fault is about, such as `messages.0.content`."""
    where = [str(part) for part in fault.get("loc", ())]
    return ".".join(where[1:] if where[:1] == ["body"] else where)
