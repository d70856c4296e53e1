"""The model API at several providers, of which the first one that answers is used for a call."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import aiohttp
import structlog

from agent_service.agent.claude.retry_after import wait_seconds
from agent_service.agent.fallbacks.places import Place, Places
from agent_service.agent.fallbacks.several import PROVIDER_HEADER
from agent_service.agent.provider import Waiting
from agent_service.gateway.forms import Form, RefusedError
from agent_service.gateway.question import Question
from agent_service.gateway.reply import Reply
from agent_service.gateway.upstream import Upstream
from agent_service.telemetry.fallback_metrics import FALLBACK_REASONS

_log = structlog.get_logger(__name__)

# A shorter prefix is not cached (`question`), so it is no reason to stay with a provider.
_PREFIX_BYTES = 4096

_ERRORS = (aiohttp.ClientError, OSError)
_REASONS = {402: "not_offered", 404: "not_offered", 408: "timed_out", 429: "rate_limited", 503: "overloaded"}
_REASONS |= {504: "timed_out", 529: "overloaded"}
# Before its content, a stream of the Messages API has a `message_start`, pings, and the start of a block without text.
_CONTENT = re.compile(rb"content_block_(?:delta|stop)|message_stop")
_MOST_BEFORE_CONTENT = 2**16

# A stream that ends with an error before its content. These are not about the question.
_ERROR_EVENT = b"event: error"
_ERROR_TYPES = {
    "overloaded_error": (529, "overloaded"),
    "rate_limit_error": (429, "rate_limited"),
    "api_error": (500, "failed"),
    "timeout_error": (504, "timed_out"),
}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a call ended.

    `reason` is why another provider is asked, None if none is; `wait` the seconds after which the provider asks to be
    called again; `was_read` whether the model may have read the question.
    """

    reply: Reply | RefusedError
    reason: str | None
    wait: float | None = None
    was_read: bool = False

    def of_model(self, asked: Question, place: Place) -> bool:
        """Return whether it is about a model that is not the one of the place."""
        return self.reason == "not_offered" and asked.model != place.model


class Fallbacks:
    """A `ModelApi` that is several. A call goes on at the next one until the first byte of an answer."""

    def __init__(self, places: Places, upstreams: Sequence[Upstream], *, model: str, first_byte_seconds: float) -> None:
        """Set up the calls.

        Args:
            places: the providers.
            upstreams: the model API of each.
            model: the agent's model, which the model of a fallback stands in for.
            first_byte_seconds: limit of the time before the first byte of a stream, for all but the last provider.
        """
        self._places = places
        self._upstreams = dict(zip((place.name for place in places.all), upstreams, strict=True))
        self._model = model
        self._first_byte_seconds = first_byte_seconds

    @property
    def marks(self) -> bool:
        """Whether prompts may be marked for the cache: unless a provider does not support it."""
        return all(upstream.marks for upstream in self._upstreams.values())

    async def call(
        self, path: str, received: Mapping[str, str], question: Question, form: Form, waiting: Waiting
    ) -> Reply:
        """Return the answer of the first provider that has one; the failure of the first one if none has.

        Raises:
            RefusedError: when no provider has, and the first one has failed without an answer for the caller.
        """
        prefix = _prefix(question)
        candidates = self._places.candidates(prefix)
        if form is Form.CHAT_COMPLETIONS:
            candidates = [place for place in candidates if place.endpoint.chats] or candidates[:1]
        seconds = self._first_byte_seconds if question.streamed else None
        failures: list[Reply | RefusedError] = []
        given_up: list[str] = []
        for place, following in zip(candidates, [*candidates[1:], None], strict=True):
            asked = self._for(place, question)
            last = following is None

            async def ask(place: Place = place, asked: Question = asked, *, last: bool = last) -> Reply:
                return await self._upstreams[place.name].call(path, received, asked, form, waiting, last=last)

            with self._places.asking(place):
                found = await _outcome(ask, form, None if last else seconds)
            reply = found.reply
            if found.reason is None:
                if isinstance(reply, RefusedError):
                    raise reply
                if reply.ok:
                    self._places.answered(place, asked.model)
                    self._places.remember(prefix, place)
                    reply.headers[PROVIDER_HEADER] = place.name
                reply.provider, reply.model, reply.given_up = place.name, asked.model, tuple(given_up)
                return reply
            failures.append(reply)
            # A model that the place does not have says nothing about its other models.
            self._places.failed(place, found.reason, found.wait, following, of_one_model=found.of_model(asked, place))
            if found.was_read:
                given_up.append(place.name)
        if isinstance(failures[0], RefusedError):
            raise failures[0]
        failures[0].given_up = tuple(given_up)
        return failures[0]

    async def count_tokens(self, path: str, received: Mapping[str, str], question: Question, waiting: Waiting) -> Reply:
        """Return the count of the first provider that counts. Arguments and errors as `call`."""
        failures: list[Reply | RefusedError] = []
        candidates = self._places.candidates(_prefix(question))
        for place in candidates:
            asked = self._for(place, question)
            upstream, last = self._upstreams[place.name], place is candidates[-1]

            async def ask(upstream: Upstream = upstream, asked: Question = asked, *, last: bool = last) -> Reply:
                return await upstream.count_tokens(path, received, asked, waiting, last=last)

            found = await _outcome(ask, Form.MESSAGES, None)
            failures.append(found.reply)
            if found.reason is None:
                failures = [found.reply]
                break
        if isinstance(failures[0], RefusedError):
            raise failures[0]
        return failures[0]

    def _for(self, place: Place, question: Question) -> Question:
        """Return the question for a place, whose model stands in for the agent's."""
        return question.to(place.model) if question.model == self._model else question

    async def close(self) -> None:
        """Close all connections."""
        for upstream in self._upstreams.values():
            await upstream.close()


async def _outcome(ask: Callable[[], Awaitable[Reply]], form: Form, seconds: float | None) -> _Outcome:
    """Return the outcome of a call. `seconds` limits the time before the first byte."""
    try:
        async with asyncio.timeout(seconds):
            reply = await ask()
            if reply.ok and reply.events:
                return await _started(reply, form)
    except RefusedError as refused:
        return _Outcome(refused, refused.outcome if refused.outcome in FALLBACK_REASONS else None)
    except TimeoutError:
        late = RefusedError(504, "timeout_error", "The model API did not answer in time.", outcome="timed_out")
        return _Outcome(late, "timed_out", was_read=True)
    status = reply.status
    reason = _REASONS.get(status) or ("failed" if status >= 500 else None)  # noqa: PLR2004
    return _Outcome(reply, reason, wait_seconds(reply.headers))


async def _started(reply: Reply, form: Form) -> _Outcome:
    """Return the outcome of a stream when its content begins."""
    received = b""
    try:
        while chunk := await anext(reply.chunks, b""):
            received += chunk
            error = _error_before_content(received)
            if error is not None:
                reply.close()
                return error
            if form is not Form.MESSAGES or _CONTENT.search(received) or len(received) >= _MOST_BEFORE_CONTENT:
                break
        else:
            # It has ended, and all that it sent is no answer, unless it is an error about the question.
            received = received if _ERROR_EVENT in received else b""
    except _ERRORS:
        received = b""
    except BaseException:
        reply.close()
        raise
    if not received:
        reply.close()
        broken = RefusedError(502, "api_error", "The model API broke off its answer.", outcome="failed")
        return _Outcome(broken, "failed", was_read=True)
    return _Outcome(replace(reply, chunks=_chained(received, reply.chunks)), None)


def _error_before_content(received: bytes) -> _Outcome | None:
    head, event, error = received.partition(_ERROR_EVENT)
    kind = next((each for each in _ERROR_TYPES if each.encode() in error), None)
    if not event or kind is None or _CONTENT.search(head):
        return None
    status, reason = _ERROR_TYPES[kind]
    message = "The model API began its answer with an error; try again later."
    return _Outcome(RefusedError(status, kind, message, outcome=reason), reason, was_read=bool(head))


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _prefix(question: Question) -> str | None:
    """Return what identifies the prefix of a question that a cache may have; None if it is too short for one.

    The official SDKs write what changes, the last messages, at the end.
    """
    if len(question.content) < _PREFIX_BYTES:
        return None
    return hashlib.blake2b(question.content[:_PREFIX_BYTES], digest_size=16).hexdigest()
