"""The provider that speaks to the Anthropic Messages API, through the official SDK."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any, cast

import anthropic
import httpx2
import orjson

from agent_service.agent.claude import errors
from agent_service.agent.claude.answer import Answer, not_events
from agent_service.agent.claude.credentials import Credentials
from agent_service.agent.claude.transport import CONNECT_SECONDS, Body, Failed, Wire
from agent_service.agent.errors import (
    CredentialsRefusedError,
    ModelError,
)
from agent_service.agent.messages import Prompt, Usage
from agent_service.agent.provider import Waiting

# Less than the patience of who asks for the check, so that the words are the model API's own.
CHECK_SECONDS = 4.0

# What answers with these, and not in Anthropic's words, does not know the call.
_NO_SUCH_CALL = frozenset({404, 405, 501})

_PAGE = "text/html"

# No model caches less than 1,024 tokens (Claude docs, "Prompt caching"), at some four characters each. Below the bound
# of its model the mark is ignored; above it, all calls of five minutes but the first pay a tenth for the prompt.
_CACHED_CHARACTERS = 4096


class ClaudeProvider:
    """One client, and with it one pool of connections, for the whole process."""

    def __init__(
        self,
        *,
        model: str,
        max_tokens: int,
        credentials: Credentials,
        max_retries: int = 1,
        base_url: str | None = None,
    ) -> None:
        """Take what is asked for, and of whom. How long an answer may take is for the caller to bound.

        Args:
            model: id of the model.
            max_tokens: most tokens of an answer.
            credentials: the key.
            max_retries: how often a call is tried again that failed before the answer began.
            base_url: address of the model API, when not Anthropic's own.
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

    async def stream(self, prompt: Prompt, usage: Usage, waiting: Waiting) -> AsyncGenerator[str]:
        """Give the answer's text as it comes in, in pieces that arrived together, empty where none of it is text.

        Always a streamed call: a plain one could not be long, and would leave nothing to count when it is cut.
        """
        async with self._translated():
            body = await self._ask(prompt, usage, waiting)
            answer = Answer(usage, max_tokens=self._options["max_tokens"], media_type=body.media_type)
            try:
                async for chunk in body:
                    text = ""
                    for text in answer.feed(chunk):
                        yield text
                    if answer.ended:
                        body.settle()
                        return
                    if not text:
                        yield text
            except BaseException:
                await body.aclose()
                raise
            for text in answer.finish():
                yield text

    async def _ask(self, prompt: Prompt, usage: Usage, waiting: Waiting) -> Body:
        """Give the answer as bytes. The SDK would make a model of each event, of which a turn needs two fields."""
        question = {**self._options, "messages": _messages(prompt)}
        if prompt.system:
            question["system"] = _system(prompt.system)
        content = orjson.dumps(question)
        usage.sent = True
        first = await self._wire.attempt(self._url, self._current_headers(), content)
        if not isinstance(first, Failed):
            return first
        usage.sent = False
        waits = waiting() if first.throttled else nullcontext()
        with waits, self._wire.handing(first):
            answer = await self._client.post(
                self._url,
                content=content,
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=anthropic.AsyncStream[object],
            )
        usage.sent = True
        # With this `cast_to` the SDK gives the response itself, whatever class of stream it is told.
        return cast("Body", cast("httpx2.Response", answer).stream)

    def _current_headers(self) -> dict[str, str]:
        """Give the SDK's headers, which change with the key alone."""
        if self._key_of_headers != self._client.api_key:
            told = self._client.default_headers
            self._headers = {name: value for name, value in told.items() if isinstance(value, str)}
            self._key_of_headers = self._client.api_key or ""
        return self._headers

    async def check(self) -> None:
        """Ask the API to count the tokens of one word: it takes the key and the model's name, and costs nothing."""
        async with self._translated():
            try:
                client = self._client.with_options(max_retries=0, timeout=CHECK_SECONDS)
                answer = await client.messages.with_raw_response.count_tokens(
                    model=self.model, messages=[{"role": "user", "content": "ping"}]
                )
            except anthropic.APIStatusError as error:
                if error.status_code in _NO_SUCH_CALL and error.type is None:
                    return  # a gateway that has messages only: it answers, and more cannot be known at no cost
                if isinstance(errors.of_exception(error), CredentialsRefusedError) and error.status_code == 403:  # noqa: PLR2004
                    # The key may be good for messages and not for this: it answers, and more cannot be known here.
                    return
                raise
            media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
            if media_type == _PAGE:
                # A login page, or another site. The form of any other answer is left open: gateways differ.
                raise not_events(media_type)

    async def close(self) -> None:
        """Close the pool."""
        await self._client.close()

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        """Use the current key, keep account of its being accepted, and give our own errors in place of the SDK's."""
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
            # A gateway that answers 200 with something that is not of the Messages API.
            raise errors.unreadable(error) from error
        self._credentials.accept(key)

    def _noted(self, error: ModelError, key: str) -> ModelError:
        """Keep account of a refused key; leave of the upstream's words what the log may have."""
        if isinstance(error, CredentialsRefusedError):
            self._credentials.refuse(key)
        if error.upstream is not None:
            # Gateways quote the key that they refuse.
            error.upstream = error.upstream.replace(key, "***")
        return error


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    messages = []
    for exchange in prompt.history:
        messages.append({"role": "user", "content": exchange.user})
        messages.append({"role": "assistant", "content": exchange.assistant})
    messages.append({"role": "user", "content": prompt.message})
    return messages


def _system(text: str) -> str | list[dict[str, object]]:
    if len(text) < _CACHED_CHARACTERS:
        return text
    return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
