"""A stand-in for the model API: it implements the wire format of the Messages API, with no model behind it.

    python server.py [--host 127.0.0.1] [--port 0]

A single file that needs only packages of the service's image (Starlette, uvicorn). It prints the address that it
listens on as its first line. Formats: https://docs.claude.com/en/api/messages, …/messages-streaming, …/errors.

It answers `POST /v1/messages` (JSON, or server-sent events with `"stream": true`) and `/v1/messages/count_tokens`:

    `Stand-in heard "<last user message>" (model <model>; system prompt "<its first 80 characters>").`

or `…; no system prompt).`. The answer shows a test which model and system prompt reached the model API.

Like the model API, it refuses (400) a request in which any message has no text except white space.

The key comes as `Authorization: Bearer` or `x-api-key`. A missing key, or one that begins with `bad-`: 401.
`forbidden-`: 403.

Faults on demand: directives in the last user message, or persistent ones for all requests
(`PUT /stand-in/directives`). The number in a directive is called N here.

    [[fault:429 retry-after=3]]   answer with this status and Anthropic's error body; retry-after is optional
    [[fault:500 times=1 id=a]]    fail only the first `times` requests with this id
    [[stall:2]]                   send nothing at all for N seconds, then answer
    [[hold:name]]                 send nothing until the test releases this name (`PUT /stand-in/released/name`);
                                  in a stream, `after=3` sends this many pieces first. After two minutes the connection
                                  is closed
    [[silent:2]]                  in a stream: after message_start, N seconds without a byte
    [[ping:2]]                    in a stream: N seconds of ping events in place of text, one every 0.1 s
    [[slow:0.1]]                  in a stream: N seconds before each piece of text
    [[words:50]]                  an answer with N more words
    [[bulk:8]]                    an answer with N more mebibytes, in pieces of 64 KiB
    [[break:3]]                   in a stream: cut the connection after N pieces
    [[end-early:3]]               in a stream: end cleanly after N pieces, without message_stop
    [[error:overloaded_error after=3]]  in a stream: an error event of this type after this many pieces
    [[refusal]]                   stop reason `refusal`
    [[stop:max_tokens]]           this stop reason
    [[cached:100]]                N more input tokens, half of them written to the cache and half read from it
    [[recount:7]]                 in a stream: report only N uncached input tokens at the end
    [[too-long]]                  answer that the prompt is too long for the model
    [[shattered]]                 in a stream: send single bytes, with Windows line endings
    [[thinking]]                  a thinking block before the text
    [[empty]]                     an answer without text; with [[thinking]], of a thinking block alone
    [[blank]]                     an answer of white space
    [[garbage]]                   status 200 with HTML, as from a misconfigured gateway

`GET /stand-in/requests` lists the received requests (newest last): path, model, system, message,
history (the earlier messages, each as `role: text`), cached (whether the system prompt is marked for the cache),
max_tokens, stream, host (the intended host, also for a request through a proxy), key (its last four characters),
status, and state: `running`, `done`, `failed`, or `disconnected` when the client left before the end.
`DELETE /stand-in/requests` clears the list and the releases.
"""

import argparse
import asyncio
import contextlib
import json
import re
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

_DIRECTIVE = re.compile(r"\[\[([a-z-]+)(?::([^\]\s]+))?((?:\s+[a-z-]+=[^\]\s]+)*)\]\]")

# The limit of a hold that no test releases: longer than any test waits, but finite.
_LONGEST_HOLD_SECONDS = 120

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@dataclass
class Seen:
    """One received request, as the tests see it."""

    path: str
    model: str
    system: str | None
    message: str
    history: list[str]
    cached: bool
    host: str
    max_tokens: int | None
    stream: bool
    key: str
    at: float = field(default_factory=time.time)
    status: int | None = None
    state: str = "running"


@dataclass(frozen=True)
class Directive:
    """One `[[name:value option=…]]`."""

    name: str
    value: str
    options: dict[str, str]


class Directives:
    """The directives that apply to one request."""

    def __init__(self, text: str) -> None:
        found = [
            Directive(name, value, dict(option.split("=", 1) for option in options.split()))
            for name, value, options in _DIRECTIVE.findall(text)
        ]
        self._by_name = {directive.name: directive for directive in found}

    def get(self, name: str) -> Directive | None:
        """Return the directive with this name, if there is one."""
        return self._by_name.get(name)

    def number(self, name: str) -> float | None:
        """Return a directive's value as a number."""
        directive = self.get(name)
        return float(directive.value) if directive else None


class Gates:
    """Gates, by name, that hold answers until a test releases them."""

    def __init__(self) -> None:
        self._released: dict[str, asyncio.Event] = {}

    def release(self, name: str) -> None:
        """Release all answers that this name holds, now and later."""
        self._event(name).set()

    def forget(self) -> None:
        """Release all answers that are held now, and hold later ones again."""
        for event in self._released.values():
            event.set()
        self._released.clear()

    async def wait(self, name: str) -> None:
        """Wait for the release. Raises ConnectionAbortedError when it does not come in time."""
        try:
            async with asyncio.timeout(_LONGEST_HOLD_SECONDS):
                await self._event(name).wait()
        except TimeoutError:
            raise ConnectionAbortedError(f"No test released {name}.") from None

    async def passed(self, request: Request, name: str) -> bool:
        """Wait for the release, unless the client disconnects; return whether it stayed."""
        waiting = asyncio.ensure_future(self.wait(name))
        try:
            while not waiting.done():
                if await request.is_disconnected():
                    return False
                await asyncio.wait([waiting], timeout=0.02)
            await waiting
            return True
        finally:
            waiting.cancel()

    def _event(self, name: str) -> asyncio.Event:
        return self._released.setdefault(name, asyncio.Event())


class StandIn:
    """All state of the process."""

    def __init__(self) -> None:
        self.seen: deque[Seen] = deque(maxlen=1000)
        self.standing = ""
        self.failed: dict[str, int] = {}
        self.gates = Gates()

    async def messages(self, request: Request) -> Response:
        """`POST /v1/messages`."""
        body, seen, refusal = await self._receive(request)
        if refusal is not None:
            return refusal
        directives = Directives(self.standing + seen.message)
        if not await self._waited(request, directives):
            seen.state = "disconnected"
            return Response(status_code=499)
        fault = self._fault(directives)
        if fault is not None:
            return _ended(seen, fault)
        if directives.get("garbage"):
            return _ended(seen, HTMLResponse("<html><body>It works!</body></html>"))
        answer = Answer(body, seen, directives, self.gates)
        seen.status = 200
        if seen.stream:
            events = _shattered(answer.events()) if directives.get("shattered") else answer.events()
            return StreamingResponse(events, media_type="text/event-stream", headers=_ids())
        return _ended(seen, JSONResponse(answer.whole(), headers=_ids()))

    async def _waited(self, request: Request, directives: Directives) -> bool:
        """Wait before an answer as the directives require; return whether the client stayed."""
        stall = directives.number("stall")
        if stall and not await _pause(request, stall):
            return False
        hold = directives.get("hold")
        return hold is None or "after" in hold.options or await self.gates.passed(request, hold.value)

    async def count_tokens(self, request: Request) -> Response:
        """`POST /v1/messages/count_tokens`."""
        body, seen, refusal = await self._receive(request)
        if refusal is not None:
            return refusal
        directives = Directives(self.standing + seen.message)
        stall = directives.number("stall")
        if stall and not await _pause(request, stall):
            seen.state = "disconnected"
            return Response(status_code=499)
        answer = self._fault(directives) or JSONResponse({"input_tokens": _input_tokens(body)}, headers=_ids())
        return _ended(seen, answer)

    async def list_requests(self, _: Request) -> Response:
        """`GET /stand-in/requests`."""
        return JSONResponse([asdict(seen) for seen in self.seen])

    async def forget_requests(self, _: Request) -> Response:
        """`DELETE /stand-in/requests`."""
        self.seen.clear()
        self.gates.forget()
        return Response(status_code=204)

    async def release(self, request: Request) -> Response:
        """`PUT /stand-in/released/{name}`."""
        self.gates.release(request.path_params["name"])
        return Response(status_code=204)

    async def set_directives(self, request: Request) -> Response:
        """`PUT /stand-in/directives`: the body is their text; an empty body removes them."""
        self.standing = (await request.body()).decode()
        return Response(status_code=204)

    async def _receive(self, request: Request) -> tuple[dict[str, Any], Seen, Response | None]:
        key = request.headers.get("authorization", "").removeprefix("Bearer ") or request.headers.get("x-api-key", "")
        try:
            body = await request.json()
        except ValueError:
            body = None
        usable = body if isinstance(body, dict) else {}
        seen = Seen(
            path=request.url.path,
            model=str(usable.get("model", "")),
            system=_text(usable["system"]) if "system" in usable else None,
            message=_last_message(usable),
            history=_before_the_last(usable),
            cached="cache_control" in str(usable.get("system")),
            host=request.headers.get("host", ""),
            max_tokens=usable.get("max_tokens"),
            stream=usable.get("stream") is True,
            key=key[-4:],
        )
        self.seen.append(seen)
        refusal = _refuse_key(key) or (_refuse_version(request)) or _refuse_body(body, request.url.path)
        return usable, seen, _ended(seen, refusal) if refusal else None

    def _fault(self, directives: Directives) -> Response | None:
        if directives.get("too-long"):
            return _error(400, "prompt is too long: 208310 tokens > 200000 maximum")
        fault = directives.get("fault")
        if fault is None:
            return None
        if "times" in fault.options:
            name = fault.options.get("id", "")
            self.failed[name] = self.failed.get(name, 0) + 1
            if self.failed[name] > int(fault.options["times"]):
                return None
        headers = {"retry-after": fault.options["retry-after"]} if "retry-after" in fault.options else {}
        return _error(int(fault.value), "The stand-in was asked to fail.", headers)


class Answer:
    """The answer to one request, whole or as events."""

    def __init__(self, body: dict[str, Any], seen: Seen, directives: Directives, gates: Gates) -> None:
        self.seen = seen
        self.gates = gates
        self.directives = directives
        self.input_tokens = _input_tokens(body)
        system = f'system prompt "{seen.system[:80]}"' if seen.system else "no system prompt"
        self.text = f'Stand-in heard "{seen.message}" (model {seen.model}; {system}).'
        self.text += "".join(f" word{number}" for number in range(int(directives.number("words") or 0)))
        self.text += (" " + "x" * (2**16 - 1)) * 16 * int(directives.number("bulk") or 0)
        if directives.get("empty") or directives.get("blank"):
            self.text = " \n\n " if directives.get("blank") else ""
        stop = directives.get("stop")
        self.stop_reason = "refusal" if directives.get("refusal") else stop.value if stop else "end_turn"
        cached = int(directives.number("cached") or 0)
        self.sent: dict[str, int] = {"input_tokens": self.input_tokens}
        if cached:
            self.sent |= {"cache_creation_input_tokens": cached // 2, "cache_read_input_tokens": cached - cached // 2}
        self.message: dict[str, Any] = {
            "id": f"msg_{uuid.uuid4().hex[:24]}",
            "type": "message",
            "role": "assistant",
            "model": seen.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**self.sent, "output_tokens": 1},
        }

    @property
    def output_tokens(self) -> int:
        """The number of output tokens: one for each word, so that tests can count them."""
        return len(self.text.split())

    def whole(self) -> dict[str, Any]:
        """Return the JSON answer."""
        content: list[dict[str, Any]] = [{"type": "text", "text": self.text}] if self.text else []
        if self.directives.get("thinking"):
            content.insert(0, {"type": "thinking", "thinking": "Let me think.", "signature": "c2lnbmF0dXJl"})
        if self.stop_reason == "refusal":
            content = []
        usage = {**self.sent, "output_tokens": self.output_tokens}
        return {**self.message, "content": content, "stop_reason": self.stop_reason, "usage": usage}

    async def events(self) -> AsyncIterator[str]:
        """Yield the answer as server-sent events."""
        try:
            async for event in self._events():
                yield event
        except ConnectionAbortedError:
            self.seen.state = "failed"
            raise
        except (GeneratorExit, asyncio.CancelledError):
            self.seen.state = "disconnected"
            raise
        self.seen.state = "done"

    async def _events(self) -> AsyncIterator[str]:
        directives = self.directives
        yield _event("message_start", message=self.message)
        await asyncio.sleep(directives.number("silent") or 0)
        yield _event("ping")
        for _ in range(int((directives.number("ping") or 0) * 10)):
            await asyncio.sleep(0.1)
            yield _event("ping")
        index = 0
        if directives.get("thinking"):
            for event in _thinking_block():
                yield event
            index = 1
        if self.text:
            yield _event("content_block_start", index=index, content_block={"type": "text", "text": ""})
        pieces = [] if self.stop_reason == "refusal" else re.findall(r"\s*\S+\s*|\s+", self.text)
        for number, piece in enumerate(pieces):
            end = self._broken(number)
            if end is not None:
                yield end
                return
            hold = directives.get("hold")
            if hold and hold.options.get("after") == str(number):
                await self.gates.wait(hold.value)
            await asyncio.sleep(directives.number("slow") or 0)
            yield _event("content_block_delta", index=index, delta={"type": "text_delta", "text": piece})
        if self.text:
            yield _event("content_block_stop", index=index)
        recount = directives.number("recount")
        sent = self.sent if recount is None else {"input_tokens": int(recount)}
        usage = {**sent, "output_tokens": self.output_tokens}
        delta: dict[str, Any] = {"stop_reason": self.stop_reason, "stop_sequence": None}
        if self.stop_reason == "refusal":
            delta["stop_details"] = {"type": "refusal", "category": None, "explanation": None}
        yield _event("message_delta", delta=delta, usage=usage)
        yield _event("message_stop")

    def _broken(self, number: int) -> str | None:
        """Break off before piece `number` if a directive requires it.

        Raises ConnectionAbortedError, or returns the last text of the stream, which may be empty.
        """
        if number == self.directives.number("break"):
            # An exception in mid-answer makes uvicorn close the connection without the last chunk.
            raise ConnectionAbortedError("The stand-in was asked to break off.")
        if number == self.directives.number("end-early"):
            return ""
        error = self.directives.get("error")
        if error is not None and number == int(error.options.get("after", "0")):
            return _event("error", error={"type": error.value, "message": "The stand-in was asked to fail."})
        return None


async def _shattered(events: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async for event in events:
        for byte in event.replace("\n", "\r\n").encode():
            yield bytes([byte])


def _thinking_block() -> list[str]:
    return [
        _event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""}),
        _event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "Let me think."}),
        _event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "c2lnbmF0dXJl"}),
        _event("content_block_stop", index=0),
    ]


def _event(kind: str, **content: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **content})}\n\n"


def _ids() -> dict[str, str]:
    return {"request-id": f"req_{uuid.uuid4().hex[:24]}"}


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    ids = _ids()
    kind = _ERROR_TYPES.get(status, "api_error")
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": ids["request-id"]}
    return JSONResponse(body, status_code=status, headers={**ids, **(headers or {})})


def _refuse_key(key: str) -> Response | None:
    if not key or key.startswith("bad-"):
        return _error(401, "invalid x-api-key")
    if key.startswith("forbidden-"):
        return _error(403, "Your API key does not have permission to use the specified resource.")
    return None


def _refuse_version(request: Request) -> Response | None:
    if "anthropic-version" not in request.headers:
        return _error(400, "anthropic-version: header is required")
    return None


def _refuse_body(body: object, path: str) -> Response | None:
    if not isinstance(body, dict):
        return _error(400, "The request body is not valid JSON")
    needed = ["model", "messages"] + ([] if path.endswith("count_tokens") else ["max_tokens"])
    for name in needed:
        if not body.get(name):
            return _error(400, f"{name}: Field required")
    if not all(_text(message.get("content", "")).strip() for message in body["messages"]) or not _last_message(body):
        return _error(400, "messages: text content blocks must contain non-whitespace text")
    if str(body["model"]).startswith("unknown-"):
        return _error(404, f"model: {body['model']}")
    return None


def _ended(seen: Seen, response: Response) -> Response:
    seen.status = response.status_code
    seen.state = "done"
    return response


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(block.get("text", "")) for block in content if isinstance(block, dict))
    return str(content)


def _last_message(body: dict[str, Any]) -> str:
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return _text(last.get("content", "")) if isinstance(last, dict) and last.get("role") == "user" else ""


def _before_the_last(body: dict[str, Any]) -> list[str]:
    messages = body.get("messages")
    before = messages[:-1] if isinstance(messages, list) else []
    return [
        f"{message.get('role')}: {_text(message.get('content', ''))}" for message in before if isinstance(message, dict)
    ]


def _input_tokens(body: dict[str, Any]) -> int:
    said = [_text(message.get("content", "")) for message in body.get("messages", []) if isinstance(message, dict)]
    return sum(len(text.split()) for text in [*said, _text(body.get("system", ""))])


async def _pause(request: Request, seconds: float) -> bool:
    """Wait this many seconds, unless the client disconnects; return whether it stayed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if await request.is_disconnected():
            return False
        await asyncio.sleep(0.02)
    return True


def make_app() -> Starlette:
    """Return the app."""
    stand_in = StandIn()
    return Starlette(
        routes=[
            Route("/v1/messages", stand_in.messages, methods=["POST"]),
            Route("/v1/messages/count_tokens", stand_in.count_tokens, methods=["POST"]),
            Route("/stand-in/requests", stand_in.list_requests, methods=["GET"]),
            Route("/stand-in/requests", stand_in.forget_requests, methods=["DELETE"]),
            Route("/stand-in/released/{name}", stand_in.release, methods=["PUT"]),
            Route("/stand-in/directives", stand_in.set_directives, methods=["PUT"]),
        ]
    )


def main() -> None:
    """Run until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description="A stand-in for the model API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="Port to listen on; 0 takes any free one.")
    options = parser.parse_args()
    sock = socket.create_server((options.host, options.port), backlog=2048)
    sys.stdout.write(f"Stand-in model API on http://{options.host}:{sock.getsockname()[1]}\n")
    sys.stdout.flush()
    # Streams are broken by exceptions, which are expected: hence the log level.
    # Like the real API, the server does not close a connection that a client may be about to use again.
    config = uvicorn.Config(
        make_app(), log_level="critical", access_log=False, timeout_keep_alive=600, timeout_graceful_shutdown=1
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[sock])


if __name__ == "__main__":
    main()
