"""The provider that calls the Anthropic Messages API through the official SDK."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any, cast

import anthropic
import httpx2
import orjson

from agent_service.agent.claude import errors
from agent_service.agent.claude.answer import Answer, not_events
from agent_service.agent.claude.blocks import Blocks
from agent_service.agent.claude.caching import CACHED_CHARACTERS, marked, marked_system
from agent_service.agent.claude.credentials import Credentials
from agent_service.agent.claude.session import CONNECT_SECONDS
from agent_service.agent.claude.transport import Body, Failed, Wire
from agent_service.agent.errors import (
    CredentialsRefusedError,
    ModelError,
)
from agent_service.agent.messages import Prompt, Usage
from agent_service.agent.provider import Waiting
from agent_service.agent.step import Step

# Shorter than the timeout of the check's caller, so that the reported error is the model API's own.
CHECK_SECONDS = 4.0

# A server that responds with one of these, and not in Anthropic's format, does not support the call.
_NO_SUCH_CALL = frozenset({404, 405, 501})

_PAGE = "text/html"


class ClaudeProvider:
    """One client, with one pool of connections, for the whole process."""

    def __init__(
        self,
        *,
        model: str,
        max_tokens: int,
        credentials: Credentials,
        max_retries: int = 1,
        base_url: str | None = None,
    ) -> None:
        """Set up the client. The caller limits how long an answer may take.

        Args:
            model: id of the model.
            max_tokens: limit of an answer in tokens.
            credentials: the key for the model API.
            max_retries: number of retries of a call that failed before its answer started.
            base_url: address of the model API, if not Anthropic's own.
        """
        self.model = model
        self._credentials = credentials
        self._options: dict[str, Any] = {"model": model, "max_tokens": max_tokens, "stream": True}
        address = base_url or "https://api.anthropic.com"
        self._url = address.rstrip("/") + "/v1/messages"
        self._wire = Wire(address)
        self._headers: dict[str, str] = {}
        self._key_of_headers = ""
        self._client = anthropic.AsyncAnthropic(
            api_key=credentials.current(),
            base_url=address,
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
            max_retries=max_retries,
            http_client=self._wire,
            open_telemetry=False,
        )

    def stream(self, prompt: Prompt, usage: Usage, waiting: Waiting) -> AsyncGenerator[str]:
        """Yield the answer's text as it arrives, one piece per chunk, empty for a chunk without text."""
        history: list[Mapping[str, Any]] = list(prompt.details.earlier or ())
        for exchange in prompt.history:
            history.append({"role": "user", "content": exchange.user})
            history.append({"role": "assistant", "content": exchange.assistant})
        step = Step(prompt.system, [*history, prompt.question], max_tokens=prompt.details.max_tokens)
        return self.step(step, usage, waiting)

    async def step(self, step: Step, usage: Usage, waiting: Waiting) -> AsyncGenerator[str]:
        """Yield the answer's text as `stream` does, and fill the step's content if it has tools.

        The call is always streamed: a plain call could not be long, and could not be counted when it is cut short.
        """
        async with self._translated():
            body = await self._ask(step, usage, waiting)
            blocks = Blocks(step) if step.tools else None
            answer = Answer(usage, max_tokens=self._options["max_tokens"], media_type=body.media_type, blocks=blocks)
            try:
                async for chunk in body:
                    text = ""
                    for text in answer.feed(chunk):
                        yield text
                    if answer.ended:
                        body.settle()
                        break
                    if not text:
                        yield text
            except BaseException:
                await body.aclose()
                raise
            if not answer.ended:
                for text in answer.finish():
                    yield text
            if blocks is not None:
                blocks.finish()

    async def _ask(self, step: Step, usage: Usage, waiting: Waiting) -> Body:
        """Return the answer as bytes. The SDK would build a model for each event, of which a turn needs two fields."""
        content = self._question(step)
        usage.sent = True
        first = await self._wire.attempt(self._url, self._current_headers(), content)
        if not isinstance(first, Failed):
            return first
        usage.sent = False
        waits = waiting() if first.throttled else nullcontext()
        with waits, self._wire.replaying(first):
            answer = await self._client.post(
                self._url,
                content=content,
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=anthropic.AsyncStream[object],
            )
        usage.sent = True
        # With this `cast_to` the SDK returns the response itself, whatever `stream_cls` it receives.
        return cast("Body", cast("httpx2.Response", answer).stream)

    def _question(self, step: Step) -> bytes:
        """Return the body of the request."""
        question = {**self._options, "messages": step.messages}
        if step.max_tokens is not None:
            question["max_tokens"] = min(step.max_tokens, self._options["max_tokens"])
        if not step.tools:
            if step.system:
                question["system"] = marked_system(step.system)
            return orjson.dumps(question)
        if step.system:
            question["system"] = step.system
        question["tools"] = step.tools
        if not step.may_call:
            # The tools stay: the API refuses earlier calls without them, and they are part of the cached prefix.
            question["tool_choice"] = {"type": "none"}
        content = orjson.dumps(question)
        return content if len(content) < CACHED_CHARACTERS else orjson.dumps(marked(question))

    def _current_headers(self) -> dict[str, str]:
        """Return the SDK's headers, which change only with the key."""
        if self._key_of_headers != self._client.api_key:
            headers = self._client.default_headers
            self._headers = {name: value for name, value in headers.items() if isinstance(value, str)}
            self._key_of_headers = self._client.api_key or ""
        return self._headers

    async def check(self) -> None:
        """Ask the API to count the tokens of one word: this checks the key and the model's name, and costs nothing."""
        async with self._translated():
            try:
                client = self._client.with_options(max_retries=0, timeout=CHECK_SECONDS)
                answer = await client.messages.with_raw_response.count_tokens(
                    model=self.model, messages=[{"role": "user", "content": "ping"}]
                )
            except anthropic.APIStatusError as error:
                if error.status_code in _NO_SUCH_CALL and error.type is None:
                    return  # a gateway with messages only: it responds, and more cannot be checked at no cost
                if isinstance(errors.of_exception(error), CredentialsRefusedError) and error.status_code == 403:  # noqa: PLR2004
                    # The key may be valid for messages but not for this call. The API responds; no more can be checked.
                    return
                raise
            media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
            if media_type == _PAGE:
                # A login page, or another site. Any other type is accepted, because gateways differ.
                raise not_events(media_type)

    async def close(self) -> None:
        """Close the pool of connections."""
        await self._client.close()

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        """Use the current key, record whether it was accepted, and raise our own errors instead of the SDK's."""
        key = self._credentials.current()
        # The SDK reads the attribute for every request that it builds.
        self._client.api_key = key
        try:
            yield
        except ModelError as error:
            self._noted(error, key)
            raise
        except (anthropic.AnthropicError, httpx2.HTTPError) as error:
            raise self._noted(errors.of_exception(error), key) from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            # A gateway responded 200 with something that is not from the Messages API.
            raise errors.unreadable(error) from error
        self._credentials.accept(key)

    def _noted(self, error: ModelError, key: str) -> ModelError:
        """Record a refused key, and remove the key from the upstream text, which goes to the log."""
        if isinstance(error, CredentialsRefusedError):
            self._credentials.refuse(key)
        if error.upstream is not None:
            # Gateways quote the key that they refuse.
            error.upstream = error.upstream.replace(key, "***")
        return error
