"""A stand-in for the model API: it implements the wire format of the Messages API, with no model behind it.

    python server.py [--host 127.0.0.1] [--port 0]

A single file that needs only packages of the service's image (Starlette, uvicorn). It prints the address that it
listens on as its first line. Formats: https://docs.claude.com/en/api/messages, …/messages-streaming, …/errors.

It answers `POST /v1/messages` (JSON, or server-sent events with `"stream": true`) and `/v1/messages/count_tokens`:

    `Stand-in heard "<last user message>" (model <model>; system prompt "<its first 80 characters>").`

or `…; no system prompt).`. The answer shows a test which model and system prompt reached the model API.

It answers `POST /v1/chat/completions` with the same text, in the form of OpenAI's API.

Like the model API, it refuses (400) a request in which any message has no text except white space, in which a tool
call has no result in the next message or a result no call, and one with calls but without tools.

The key comes as `Authorization: Bearer` or `x-api-key`. A missing key, or one that begins with `bad-`: 401.
`forbidden-`: 403.

How it answers, `Behaviour` describes: as a JSON object within the last user message, such as `hello {"words":50}`, or
for all requests (`PUT /stand-in/behaviour`).

`GET /stand-in/requests` lists the received requests (newest last): path, model, system, message,
history (the earlier messages, each as `role: text`), cached (whether the system prompt is marked for the cache),
max_tokens, stream, host (the intended host, also for a request through a proxy), key (its last four characters),
headers (without the key), query, body (as text, empty if it has more than 64 KiB), status, usage (the tokens sent), and
state: `running`, `done`, `failed`, or `disconnected` when the client left before the end.
`DELETE /stand-in/requests` clears the list and the releases.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import re
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

# The limit of a hold that no test releases: longer than any test waits, but finite.
_LONGEST_HOLD_SECONDS = 120

# A longer body is not kept.
_LONGEST_BODY = 2**16

# An answer repeats this much of each result of a tool.
_LONGEST_RESULT = 200

_CHAT = "/v1/chat/completions"

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
    headers: dict[str, str]
    query: str
    body: str
    at: float = field(default_factory=time.time)
    status: int | None = None
    state: str = "running"
    usage: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Behaviour:
    """How to answer a request. Times are in seconds."""

    # Before the answer.
    stall: float = 0
    """Send nothing for this long."""
    hold: str | None = None
    """Send nothing until the test releases this name (`PUT /stand-in/released/NAME`); after two minutes, disconnect."""
    after: int | None = None
    """With `hold` or `error`: in a stream, send this many pieces first."""

    # In place of an answer.
    fault: int | None = None
    """Answer with this status and Anthropic's error body."""
    retry_after: float | None = None
    """With `fault`: the header `retry-after`."""
    times: int | None = None
    """With `fault`: fail only this many requests with the same `id`."""
    id: str = ""
    too_long: bool = False
    """Answer that the prompt is too long for the model."""
    refuses_cache_control: bool = False
    """Refuse a request with the field `cache_control`, like a gateway that does not know it."""
    garbage: bool = False
    """Answer 200 with HTML, like a misconfigured gateway."""

    # The content of the answer.
    words: int = 0
    """Add this many words."""
    bulk: int = 0
    """Add this many mebibytes, in pieces of 64 KiB."""
    empty: bool = False
    """Answer without text; with `thinking`, with a thinking block alone."""
    blank: bool = False
    """Answer with white space."""
    thinking: bool = False
    """Send a thinking block before the text. With tool calls, refuse later steps of the turn without the block."""
    redacted: bool = False
    """With `thinking`: send a redacted thinking block, too."""
    stop: str = "end_turn"
    """The stop reason."""
    refusal: bool = False
    """Stop with the reason `refusal`, without content."""
    cached: int = 0
    """Count this many more input tokens, half of them written to the cache and half read from it."""
    recount: int | None = None
    """In a stream: report only this many uncached input tokens at the end."""

    # The course of a stream.
    silent: float = 0
    """After message_start, send nothing for this long."""
    ping: float = 0
    """Send ping events in place of text for this long, one every 0.1 s."""
    slow: float = 0
    """Wait this long before each piece of text."""
    shattered: bool = False
    """Send single bytes, with Windows line endings."""
    break_at: int | None = None
    """Cut the connection after this many pieces."""
    end_at: int | None = None
    """End cleanly after this many pieces, without message_stop."""
    error: str | None = None
    """Send an error event of this type after `after` pieces."""

    # Tools. A step is a request of the same turn; the last message with text begins a turn.
    calls: Any = ()
    """A list for each step with its tool calls: objects with `name` and `input`, or `raw` (the input as text). Later
    steps answer with text, and with the start of each of the last results. A request that may call no tools is
    answered so."""
    endless: bool = False
    """Make the last of `calls` in every later step."""
    stubborn: bool = False
    """Call tools even if the request allows none."""
    pauses: int = 0
    """Answer the first steps with the reason `pause_turn`, this many times."""
    server_tool: bool = False
    """In the first step, use a tool of the model API (web search) before the text."""
    caching: bool = False
    """Count the tokens of marked prefixes as written to the cache, or as read from it, at four characters each.

    As documented: a mark reads the longest prefix that was written and ends at most 20 blocks before it; a prefix
    shorter than 1,024 tokens is not written; more than four marks are refused."""


_BEHAVIOUR = frozenset(each.name for each in fields(Behaviour))


def behaviour_in(message: str) -> dict[str, Any]:
    """Return the arguments of a Behaviour in the first JSON object of a message; none if there is no such object."""
    start = message.find('{"')
    if start < 0:
        return {}
    try:
        found, _ = json.JSONDecoder().raw_decode(message, start)
    except (ValueError, RecursionError):
        return {}
    return {name: value for name, value in found.items() if name in _BEHAVIOUR}


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
        self.for_all: dict[str, Any] = {}
        self.failed: dict[str, int] = {}
        self.gates = Gates()
        self.cache = Cache()

    async def messages(self, request: Request) -> Response:
        """`POST /v1/messages`."""
        return await self._answered(request, self._waited, self._message)

    async def chat_completions(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        return await self._answered(request, self._waited, self._completion)

    async def count_tokens(self, request: Request) -> Response:
        """`POST /v1/messages/count_tokens`."""
        return await self._answered(request, _stalled, self._count)

    async def _answered(
        self,
        request: Request,
        wait: Callable[[Request, Behaviour], Awaitable[bool]],
        answer: Callable[[dict[str, Any], Seen, Behaviour], Response],
    ) -> Response:
        """Answer a request, unless it is refused, or the client leaves while it waits."""
        body, seen, refusal = await self._receive(request)
        if refusal is not None:
            return refusal
        behaviour = self._behaviour(seen.message)
        if not await wait(request, behaviour):
            seen.state = "disconnected"
            return Response(status_code=499)
        return answer(body, seen, behaviour)

    def _message(self, body: dict[str, Any], seen: Seen, behaviour: Behaviour) -> Response:
        fault = self._fault(behaviour)
        if behaviour.refuses_cache_control and "cache_control" in body:
            fault = _error(400, "cache_control: Extra inputs are not permitted")
        if fault is not None:
            return _ended(seen, fault)
        if behaviour.garbage:
            return _ended(seen, HTMLResponse("<html><body>It works!</body></html>"))
        if behaviour.thinking and not all(map(_begins_with_thoughts, _steps(body))):
            return _ended(seen, _error(400, "Expected `thinking` or `redacted_thinking`, but found `tool_use`"))
        cached = self.cache.count(body) if behaviour.caching else None
        answer = Answer(body, seen, behaviour, self.gates, cached)
        seen.status = 200
        if seen.stream:
            events = _shattered(answer.events()) if behaviour.shattered else answer.events()
            return StreamingResponse(events, media_type="text/event-stream", headers=_ids())
        return _ended(seen, JSONResponse(answer.whole(), headers=_ids()))

    def _completion(self, body: dict[str, Any], seen: Seen, behaviour: Behaviour) -> Response:
        fault = self._fault(behaviour)
        if fault is not None:
            return _ended(seen, _in_form_of_chat(fault))
        answer = Answer(body, seen, behaviour, self.gates)
        seen.status = 200
        if seen.stream:
            options = body.get("stream_options")
            usage = isinstance(options, dict) and options.get("include_usage") is True
            return StreamingResponse(answer.chunks(usage=usage), media_type="text/event-stream", headers=_ids())
        return _ended(seen, JSONResponse(answer.completion(), headers=_ids()))

    def _behaviour(self, message: str) -> Behaviour:
        return Behaviour(**{**self.for_all, **behaviour_in(message)})

    async def _waited(self, request: Request, behaviour: Behaviour) -> bool:
        """Wait before an answer as the behaviour requires; return whether the client stayed."""
        if not await _stalled(request, behaviour):
            return False
        if behaviour.hold is None or behaviour.after is not None:
            return True
        return await self.gates.passed(request, behaviour.hold)

    def _count(self, body: dict[str, Any], seen: Seen, behaviour: Behaviour) -> Response:
        answer = self._fault(behaviour) or JSONResponse({"input_tokens": _input_tokens(body)}, headers=_ids())
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

    async def behave(self, request: Request) -> Response:
        """`PUT /stand-in/behaviour`: a JSON object with arguments of a Behaviour, for all requests from now on."""
        self.for_all = await request.json()
        return Response(status_code=204)

    async def _receive(self, request: Request) -> tuple[dict[str, Any], Seen, Response | None]:
        key = request.headers.get("authorization", "").removeprefix("Bearer ") or request.headers.get("x-api-key", "")
        raw = await request.body()
        try:
            body = json.loads(raw)
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
            headers={
                name: value for name, value in request.headers.items() if name not in {"authorization", "x-api-key"}
            },
            query=request.url.query,
            body=raw.decode(errors="surrogateescape") if len(raw) <= _LONGEST_BODY else "",
        )
        self.seen.append(seen)
        refusal = _refuse_key(key) or (_refuse_version(request)) or _refuse_body(body, request.url.path)
        if refusal is not None and seen.path == _CHAT:
            refusal = _in_form_of_chat(refusal)
        return usable, seen, _ended(seen, refusal) if refusal else None

    def _fault(self, behaviour: Behaviour) -> Response | None:
        if behaviour.too_long:
            return _error(400, "prompt is too long: 208310 tokens > 200000 maximum")
        if behaviour.fault is None:
            return None
        if behaviour.times is not None:
            self.failed[behaviour.id] = self.failed.get(behaviour.id, 0) + 1
            if self.failed[behaviour.id] > behaviour.times:
                return None
        headers = {} if behaviour.retry_after is None else {"retry-after": str(behaviour.retry_after)}
        return _error(behaviour.fault, "The stand-in was asked to fail.", headers)


class Answer:
    """The answer to one request, whole or as events."""

    def __init__(
        self,
        body: dict[str, Any],
        seen: Seen,
        behaviour: Behaviour,
        gates: Gates,
        counted: dict[str, int] | None = None,
    ) -> None:
        self.seen = seen
        self.gates = gates
        self.behaviour = behaviour
        self.input_tokens = _input_tokens(body)
        system = f'system prompt "{seen.system[:80]}"' if seen.system else "no system prompt"
        self.text = f'Stand-in heard "{seen.message}" (model {seen.model}; {system}).'
        self.text += "".join(f" word{number}" for number in range(behaviour.words))
        self.text += (" " + "x" * (2**16 - 1)) * 16 * behaviour.bulk
        if behaviour.empty or behaviour.blank:
            self.text = " \n\n " if behaviour.blank else ""
        self.stop_reason = "refusal" if behaviour.refusal else behaviour.stop
        cached = behaviour.cached
        self.sent: dict[str, int] = {"input_tokens": self.input_tokens}
        if counted is not None:
            self.sent = counted
        seen.usage = self.sent
        if cached:
            self.sent |= {"cache_creation_input_tokens": cached // 2, "cache_read_input_tokens": cached - cached // 2}
        self.calls = _calls(body, behaviour)
        results = _results(body)
        if self.calls:
            self.text = "" if behaviour.empty else f"Calling {', '.join(call['name'] for call in self.calls)}."
            self.stop_reason = "tool_use" if behaviour.stop == "end_turn" else behaviour.stop
        elif results:
            self.text += f" Results: {'; '.join(results)}."
        pauses = _pauses(body)
        if pauses < behaviour.pauses:
            self.calls, self.text, self.stop_reason = [], f"{_PAUSE}{pauses + 1}. ", "pause_turn"
        self.before_text = [_REDACTED] if behaviour.thinking and behaviour.redacted else []
        self.before_text += _web_search() if behaviour.server_tool and not _used_server_tools(body) else []
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
        if self.behaviour.thinking:
            content.insert(0, {"type": "thinking", "thinking": "Let me think.", "signature": "c2lnbmF0dXJl"})
        content = [*self.before_text, *content, *map(_without_raw, self.calls)]
        if self.stop_reason == "refusal":
            content = []
        usage = {**self.sent, "output_tokens": self.output_tokens}
        return {**self.message, "content": content, "stop_reason": self.stop_reason, "usage": usage}

    def completion(self) -> dict[str, Any]:
        """Return the JSON answer in the form of OpenAI's API."""
        message = {"role": "assistant", "content": self.text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self._usage()}

    async def chunks(self, *, usage: bool) -> AsyncIterator[str]:
        """Yield the answer as the chunks of OpenAI's API, the last of them with the usage if it was asked for."""
        async for chunk in self._watched(self._chunks(usage=usage)):
            yield chunk

    async def events(self) -> AsyncIterator[str]:
        """Yield the answer as server-sent events."""
        async for event in self._watched(self._events()):
            yield event

    async def _watched(self, events: AsyncIterator[str]) -> AsyncIterator[str]:
        """Yield the events, and note how they end."""
        try:
            async for event in events:
                yield event
        except ConnectionAbortedError:
            self.seen.state = "failed"
            raise
        except (GeneratorExit, asyncio.CancelledError):
            self.seen.state = "disconnected"
            raise
        self.seen.state = "done"

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.message["id"], "object": kind, "created": int(time.time()), "model": self.seen.model}

    def _usage(self) -> dict[str, int]:
        sent, received = self.input_tokens, self.output_tokens
        return {"prompt_tokens": sent, "completion_tokens": received, "total_tokens": sent + received}

    async def _chunks(self, *, usage: bool) -> AsyncIterator[str]:
        head = self._head("chat.completion.chunk")
        deltas: list[dict[str, str]] = [{"content": piece} for piece in re.findall(r"\s*\S+\s*|\s+", self.text)]
        for number, delta in enumerate([{"role": "assistant", "content": ""}, *deltas, {}]):
            if self._broken(number) is not None:
                return
            if self.behaviour.hold is not None and self.behaviour.after == number:
                await self.gates.wait(self.behaviour.hold)
            await asyncio.sleep(self.behaviour.slow)
            choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop", "logprobs": None}
            yield _data({**head, "choices": [choice]})
        if usage:
            yield _data({**head, "choices": [], "usage": self._usage()})
        yield "data: [DONE]\n\n"

    async def _events(self) -> AsyncIterator[str]:
        behaviour = self.behaviour
        yield _event("message_start", message=self.message)
        await asyncio.sleep(behaviour.silent)
        yield _event("ping")
        for _ in range(int(behaviour.ping * 10)):
            await asyncio.sleep(0.1)
            yield _event("ping")
        before = [*([_thinking_block()] if behaviour.thinking else []), *map(_whole_block, self.before_text)]
        for index, events in enumerate(before):
            for part in events:
                yield _at(index, part)
        async for event in self._text_events(len(before)):
            if not event:
                return
            yield event
        for index, call in enumerate(self.calls, len(before) + bool(self.text)):
            for part in _tool_use(call):
                yield _at(index, part)
        sent = self.sent if behaviour.recount is None else {"input_tokens": behaviour.recount}
        usage = {**sent, "output_tokens": self.output_tokens}
        delta: dict[str, Any] = {"stop_reason": self.stop_reason, "stop_sequence": None}
        if self.stop_reason == "refusal":
            delta["stop_details"] = {"type": "refusal", "category": None, "explanation": None}
        yield _event("message_delta", delta=delta, usage=usage)
        yield _event("message_stop")

    async def _text_events(self, index: int) -> AsyncIterator[str]:
        """Yield the block of text; at last an empty event if the stream ends within it."""
        if not self.text:
            return
        yield _event("content_block_start", index=index, content_block={"type": "text", "text": ""})
        pieces = [] if self.stop_reason == "refusal" else re.findall(r"\s*\S+\s*|\s+", self.text)
        for number, piece in enumerate(pieces):
            end = self._broken(number)
            if end is not None:
                if end:
                    yield end
                yield ""
                return
            if self.behaviour.hold is not None and self.behaviour.after == number:
                await self.gates.wait(self.behaviour.hold)
            await asyncio.sleep(self.behaviour.slow)
            yield _event("content_block_delta", index=index, delta={"type": "text_delta", "text": piece})
        yield _event("content_block_stop", index=index)

    def _broken(self, number: int) -> str | None:
        """Break off before piece `number` if the behaviour requires it.

        Raises ConnectionAbortedError, or returns the last text of the stream, which may be empty.
        """
        if number == self.behaviour.break_at:
            # An exception in mid-answer makes uvicorn close the connection without the last chunk.
            raise ConnectionAbortedError("The stand-in was asked to break off.")
        if number == self.behaviour.end_at:
            return ""
        error = self.behaviour.error
        if error is not None and number == (self.behaviour.after or 0):
            return _event("error", error={"type": error, "message": "The stand-in was asked to fail."})
        return None


async def _shattered(events: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async for event in events:
        for byte in event.replace("\n", "\r\n").encode():
            yield bytes([byte])


def _at(index: int, event: dict[str, Any]) -> str:
    """Return an event of the block at a position."""
    return _event(event["type"], **{**event, "index": index})


_PAUSE = "Pause "
_REDACTED = {"type": "redacted_thinking", "data": "c2VjcmV0"}


def _thinking_block() -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
        {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "Let me think."}},
        {"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "c2lnbmF0dXJl"}},
        {"type": "content_block_stop"},
    ]


def _whole_block(block: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "content_block_start", "content_block": block}, {"type": "content_block_stop"}]


def _calls(body: dict[str, Any], behaviour: Behaviour) -> list[dict[str, Any]]:
    """Return the blocks of the tool calls of this step, with their input as text in `raw`."""
    may_call = behaviour.stubborn or (body.get("tool_choice") or {}).get("type") != "none"
    if not (body.get("tools") and may_call and behaviour.calls):
        return []
    step = sum(bool(_of_type(message, "tool_use")) for message in _steps(body))
    if step >= len(behaviour.calls):
        if not behaviour.endless:
            return []
        step = len(behaviour.calls) - 1
    return [
        {
            "type": "tool_use",
            "id": f"toolu_{uuid.uuid4().hex[:24]}",
            "name": call["name"],
            "input": call.get("input", {}),
            "raw": call.get("raw", json.dumps(call.get("input", {}))),
        }
        for call in behaviour.calls[step]
    ]


def _tool_use(call: dict[str, Any]) -> list[dict[str, Any]]:
    raw = call["raw"]
    block = {"type": "tool_use", "id": call["id"], "name": call["name"], "input": {}}
    half = len(raw) // 2
    deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", raw[:half], raw[half:])]
    return [
        {"type": "content_block_start", "content_block": block},
        *({"type": "content_block_delta", "delta": delta} for delta in deltas),
        {"type": "content_block_stop"},
    ]


def _without_raw(call: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in call.items() if name != "raw"}


def _web_search() -> list[dict[str, Any]]:
    use = f"srvtoolu_{uuid.uuid4().hex[:24]}"
    found = {"type": "web_search_result", "url": "https://example.com", "title": "Example", "encrypted_content": "ZQ=="}
    return [
        {"type": "server_tool_use", "id": use, "name": "web_search", "input": {"query": "example"}},
        {"type": "web_search_tool_result", "tool_use_id": use, "content": [found]},
    ]


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if not isinstance(content, list):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)]


def _of_type(message: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [block for block in _blocks(message) if block.get("type") == kind]


def _begins_turn(message: dict[str, Any]) -> bool:
    return message.get("role") == "user" and not _of_type(message, "tool_result")


def _steps(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the answers in the current turn so far."""
    messages = [each for each in body.get("messages", []) if isinstance(each, dict)]
    first = max((number for number, message in enumerate(messages) if _begins_turn(message)), default=0)
    return [message for message in messages[first:] if message.get("role") == "assistant"]


def _begins_with_thoughts(message: dict[str, Any]) -> bool:
    blocks = _blocks(message)
    return bool(blocks) and blocks[0].get("type") in {"thinking", "redacted_thinking"}


def _pauses(body: dict[str, Any]) -> int:
    """Return how often the current turn was paused."""
    texts = [block["text"] for message in _steps(body) for block in _of_type(message, "text")]
    return sum(text.startswith(_PAUSE) for text in texts)


def _used_server_tools(body: dict[str, Any]) -> bool:
    return any(_of_type(message, "server_tool_use") for message in _steps(body))


def _results(body: dict[str, Any]) -> list[str]:
    """Return the text of each tool result in the last message."""
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages and isinstance(messages[-1], dict) else {}
    return [_text(block.get("content", ""))[:_LONGEST_RESULT] for block in _of_type(last, "tool_result")]


def _refuse_calls(body: dict[str, Any]) -> str | None:
    """Return what is wrong with the tool calls of a question, as the model API words it."""
    waiting: set[str] = set()
    for number, message in enumerate([*body["messages"], {"role": "user", "content": []}]):
        results = {str(block.get("tool_use_id")) for block in _of_type(message, "tool_result")}
        if waiting != results:
            return f"messages.{number}: `tool_use` ids and `tool_result` blocks immediately after do not match"
        calls = _of_type(message, "tool_use")
        waiting = {str(block.get("id")) for block in calls}
        if (calls or results) and not body.get("tools"):
            return "Requests which include `tool_use` or `tool_result` blocks must define tools"
        if any(not isinstance(block.get("input"), dict) for block in calls):
            return f"messages.{number}: tool_use.input: Input should be a valid dictionary"
        if any(block.get("signature") != "c2lnbmF0dXJl" for block in _of_type(message, "thinking")):
            return f"messages.{number}: Invalid `signature` in `thinking` block"
    if _marks(body) > 4:
        return "A maximum of 4 blocks with cache_control may be provided."
    names = [str(tool.get("name")) for tool in body.get("tools") or []]
    return None if len(names) == len(set(names)) else "tools: Tool names must be unique."


class Cache:
    """The prompt cache of the model API: prefixes that end at a mark (Claude docs, "Prompt caching")."""

    _LEAST_TOKENS = 1024
    _BLOCKS_BACK = 20
    _MOST_MARKS = 4

    def __init__(self) -> None:
        self._tokens: dict[bytes, int] = {}

    def count(self, body: dict[str, Any]) -> dict[str, int]:
        """Return the usage of a question's input, and keep its marked prefixes."""
        prefixes, marks = self._prefixes(body)
        reads = [
            self._tokens.get(digest, 0)
            for mark in marks
            for digest, _ in prefixes[max(0, mark - self._BLOCKS_BACK) : mark + 1]
        ]
        read = max(reads, default=0)
        written = 0
        for mark in marks:
            digest, tokens = prefixes[mark]
            if tokens >= self._LEAST_TOKENS:
                self._tokens[digest] = tokens
                written = max(written, tokens - read)
        rest = prefixes[-1][1] - read - written
        return {
            "input_tokens": rest,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read,
        }

    def _prefixes(self, body: dict[str, Any]) -> tuple[list[tuple[bytes, int]], list[int]]:
        """Return the digest and the tokens of the prefix up to each block, and the positions of the marks."""
        digest, characters = hashlib.sha256(), 0
        prefixes: list[tuple[bytes, int]] = []
        marks: list[int] = []
        for block in self._in_order(body):
            text = json.dumps({name: value for name, value in block.items() if name != "cache_control"})
            digest.update(text.encode())
            characters += len(text)
            prefixes.append((digest.digest(), characters // 4))
            if "cache_control" in block:
                marks.append(len(prefixes) - 1)
        return prefixes, marks

    def _in_order(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        system = body.get("system") or []
        blocks = [*(body.get("tools") or []), *(_blocks({"content": system}) if system else [])]
        for message in body["messages"]:
            # A change of `tool_choice` keeps the tools and the system prompt in the cache, and loses the messages.
            place = {"role": message["role"], "tool_choice": body.get("tool_choice")}
            blocks.extend({**block, **place} for block in _blocks(message))
        return blocks


def _marks(value: object) -> int:
    """Return the number of marks for the cache in a body."""
    if isinstance(value, dict):
        return ("cache_control" in value) + sum(map(_marks, value.values()))
    return sum(map(_marks, value)) if isinstance(value, list) else 0


def _event(kind: str, **content: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **content})}\n\n"


def _data(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"


def _in_form_of_chat(error: Response) -> Response:
    """Return an error in the form of OpenAI's API."""
    about = json.loads(bytes(error.body))["error"]
    body = {"error": {**about, "param": None, "code": about["type"]}}
    headers = {name: value for name, value in error.headers.items() if name in {"request-id", "retry-after"}}
    return JSONResponse(body, status_code=error.status_code, headers=headers)


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
    if "anthropic-version" not in request.headers and request.url.path != _CHAT:
        return _error(400, "anthropic-version: header is required")
    return None


def _refuse_body(body: object, path: str) -> Response | None:
    if not isinstance(body, dict):
        return _error(400, "The request body is not valid JSON")
    needed = ["model", "messages"] + (["max_tokens"] if path == "/v1/messages" else [])
    for name in needed:
        if not body.get(name):
            return _error(400, f"{name}: Field required")
    if not all(map(_has_content, body["messages"])) or not _last_message(body):
        return _error(400, "messages: text content blocks must contain non-whitespace text")
    wrong = _refuse_calls(body) if path != _CHAT else None
    if wrong is not None:
        return _error(400, wrong)
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


def _has_content(message: dict[str, Any]) -> bool:
    texts = [str(block.get("text", "")) for block in _of_type(message, "text")]
    others = [block for block in _blocks(message) if block.get("type") != "text"]
    return bool(others or texts) and all(text.strip() for text in texts)


def _last_message(body: dict[str, Any]) -> str:
    messages = body.get("messages")
    known = [each for each in messages if isinstance(each, dict)] if isinstance(messages, list) else []
    # The Claude Agent SDK ends a conversation with messages of the role `system`.
    of_turn = [each for each in known if each.get("role") != "system"]
    if body.get("tools"):
        # Results of tools, and answers that were paused, belong to the turn that a message with text began.
        of_turn = [each for each in of_turn if _begins_turn(each)]
    last = of_turn[-1] if of_turn else {}
    return _text(last.get("content", "")) if last.get("role") == "user" else ""


def _before_the_last(body: dict[str, Any]) -> list[str]:
    messages = body.get("messages")
    before = messages[:-1] if isinstance(messages, list) else []
    return [
        f"{message.get('role')}: {_text(message.get('content', ''))}" for message in before if isinstance(message, dict)
    ]


def _input_tokens(body: dict[str, Any]) -> int:
    said = [_text(message.get("content", "")) for message in body.get("messages", []) if isinstance(message, dict)]
    return sum(len(text.split()) for text in [*said, _text(body.get("system", ""))])


async def _stalled(request: Request, behaviour: Behaviour) -> bool:
    """Wait as long as the behaviour stalls, unless the client disconnects; return whether it stayed."""
    return not behaviour.stall or await _pause(request, behaviour.stall)


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
            Route(_CHAT, stand_in.chat_completions, methods=["POST"]),
            Route("/v1/messages/count_tokens", stand_in.count_tokens, methods=["POST"]),
            Route("/stand-in/requests", stand_in.list_requests, methods=["GET"]),
            Route("/stand-in/requests", stand_in.forget_requests, methods=["DELETE"]),
            Route("/stand-in/released/{name}", stand_in.release, methods=["PUT"]),
            Route("/stand-in/behaviour", stand_in.behave, methods=["PUT"]),
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
