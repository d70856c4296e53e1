"""The provider that calls the Messages API through the official SDK, at Anthropic or in a cloud."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any, cast

import anthropic
import httpx2
import orjson
from anthropic import RequestOptions

from agent_service.agent.claude import errors
from agent_service.agent.claude.answer import Answer, not_events
from agent_service.agent.claude.blocks import Blocks
from agent_service.agent.claude.caching import CACHED_CHARACTERS, marked, marked_system
from agent_service.agent.claude.credentials import Credential, hidden
from agent_service.agent.claude.endpoint import AnyEndpoint, Call
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

# A question to count may have megabytes.
_COUNT_SECONDS = 30.0

# A server that responds with one of these, and not in Anthropic's format, does not support the call.
_NO_SUCH_CALL = frozenset({404, 405, 501})

_PAGE = "text/html"


class ClaudeProvider:
    """One client, with one pool of connections, for the whole process."""

    def __init__(self, endpoint: AnyEndpoint, *, model: str, max_tokens: int, max_retries: int = 1) -> None:
        """Set up the client. The caller limits how long an answer may take.

        Args:
            endpoint: where the model is called, with the credentials for it.
            model: name of the model.
            max_tokens: limit of an answer in tokens.
            max_retries: number of retries of a call that failed before its answer started.
        """
        self.model = model
        self._endpoint = endpoint
        self._credentials = endpoint.credentials
        self._max_retries = max_retries
        self._options: dict[str, Any] = {"model": model, "max_tokens": max_tokens, "stream": True}
        self._asked = endpoint.rewrite(Call.MESSAGES, model, streamed=True)
        self._counted = endpoint.rewrite(Call.COUNT_TOKENS, model)
        self._wire = Wire(endpoint)
        self._headers: dict[str, str] = {}
        self._credential_of_headers: Credential | None = None
        self._client = endpoint.client(
            self._wire,
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
            max_retries=max_retries,
            open_telemetry=False,
        )

    def stream(self, prompt: Prompt, usage: Usage, waiting: Waiting) -> AsyncGenerator[str]:
        """Yield the answer's text as it arrives, one piece per chunk, empty for a chunk without text."""
        return self.step(step_of(prompt), usage, waiting)

    async def step(self, step: Step, usage: Usage, waiting: Waiting, *, last: bool = True) -> AsyncGenerator[str]:
        """Yield the answer's text as `stream` does, and fill the step's content if it has tools.

        The call is always streamed: a plain call could not be long, and could not be counted when it is cut short.
        A failed call is retried if this is the `last` provider to ask.
        """
        async with self._translated() as credential:
            body = await self._ask(step, usage, waiting, credential, last=last)
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

    async def _ask(self, step: Step, usage: Usage, waiting: Waiting, credential: Credential, *, last: bool) -> Body:
        """Return the answer as bytes. The SDK would build a model for each event, of which a turn needs two fields."""
        content = self._question(step)
        url = self._endpoint.address + self._asked.path
        headers = self._current_headers(credential)
        if "Authorization" not in headers:
            # Some of the SDK's clients have it among the headers of every request, as the one for Anthropic.
            headers = {**headers, **await self._endpoint.authorize(credential, url, content)}
        usage.sent = True
        first = await self._wire.attempt(url, headers, content)
        if not isinstance(first, Failed):
            return first
        usage.sent = False
        retries = self._max_retries if last else int(first.was_idle)
        waits = waiting() if first.throttled else nullcontext()
        with waits, self._wire.replaying(first):
            answer = await self._client.post(
                self._asked.path,
                content=content,
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=anthropic.AsyncStream[object],
                options={"max_retries": retries},
            )
        usage.sent = True
        # With this `cast_to` the SDK returns the response itself, whatever `stream_cls` it receives.
        return cast("Body", cast("httpx2.Response", answer).stream)

    def _question(self, step: Step) -> bytes:
        """Return the body of the request."""
        question = {**self._options, **_of_step(step)}
        if step.max_tokens is not None:
            question["max_tokens"] = min(step.max_tokens, self._options["max_tokens"])
        if not step.tools:
            if step.system:
                question["system"] = marked_system(step.system)
            return self._asked.of_object(question)
        content = self._asked.of_object(question)
        return content if len(content) < CACHED_CHARACTERS else self._asked.of_object(marked(question))

    def _current_headers(self, credential: Credential) -> dict[str, str]:
        """Return the SDK's headers, which change only with the credential."""
        if self._credential_of_headers != credential:
            headers = self._client.default_headers
            self._headers = {name: value for name, value in headers.items() if isinstance(value, str)}
            self._credential_of_headers = credential
        return self._headers

    async def count(self, prompt: Prompt) -> int | None:
        """Return the tokens of a question; None if the model API, which may be a gateway, does not count them."""
        return await self.count_step(step_of(prompt))

    async def count_step(self, step: Step, *, last: bool = True) -> int | None:
        """Return the tokens of a step, as `count` does. A failed call is retried as in `step`."""
        options: RequestOptions = {"timeout": _COUNT_SECONDS, "max_retries": self._max_retries if last else 0}
        async with self._translated():
            try:
                answer = await self._count({"model": self.model, **_of_step(step)}, options)
            except anthropic.APIStatusError as error:
                if error.status_code in _NO_SUCH_CALL:
                    return None
                raise
            return int(orjson.loads(self._counted.disclose(answer.content))["input_tokens"])

    async def check(self) -> None:
        """Ask the API to count the tokens of one word: this checks the key and the model's name, and costs nothing."""
        async with self._translated():
            try:
                question = {"model": self.model, "messages": [{"role": "user", "content": "ping"}]}
                answer = await self._count(question, {"max_retries": 0, "timeout": CHECK_SECONDS})
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

    async def _count(self, question: Mapping[str, Any], options: RequestOptions) -> httpx2.Response:
        content = self._counted.of_object(question)
        return await self._client.post(self._counted.path, content=content, cast_to=httpx2.Response, options=options)

    async def close(self) -> None:
        """Close the pool of connections."""
        await self._client.close()

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[Credential]:
        """Use the current credential, record whether it was accepted, and raise our own errors, not the SDK's."""
        credential = await self._credentials.current()
        self._endpoint.use(self._client, credential)
        try:
            yield credential
        except ModelError as error:
            self._noted(error, credential)
            raise
        except (anthropic.AnthropicError, httpx2.HTTPError) as error:
            raise self._noted(errors.of_exception(error), credential) from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            # A gateway responded 200 with something that is not from the Messages API.
            raise errors.unreadable(error) from error
        self._credentials.accept(credential)

    def _noted(self, error: ModelError, credential: Credential) -> ModelError:
        """Record a refused credential, and remove its secrets from the upstream text, which goes to the log."""
        if isinstance(error, CredentialsRefusedError):
            self._credentials.refuse(credential)
        if error.upstream is not None:
            error.upstream = hidden(error.upstream, credential)
        return error


def step_of(prompt: Prompt) -> Step:
    """Return the only step of a turn without tools."""
    history: list[Mapping[str, Any]] = list(prompt.details.earlier or ())
    for exchange in prompt.history:
        history.append({"role": "user", "content": exchange.user})
        history.append({"role": "assistant", "content": exchange.assistant})
    return Step(
        prompt.system,
        [*history, prompt.question],
        max_tokens=prompt.details.max_tokens,
        conversation=prompt.conversation_id,
    )


def _of_step(step: Step) -> dict[str, Any]:
    """Return the fields of a request that say what is asked."""
    found: dict[str, Any] = {"messages": step.messages}
    if step.system:
        found["system"] = step.system
    if step.tools:
        found["tools"] = step.tools
        if not step.may_call:
            # The tools stay: the API refuses earlier calls without them, and they are part of the cached prefix.
            found["tool_choice"] = {"type": "none"}
        elif step.tool_choice is not None:
            found["tool_choice"] = step.tool_choice
    return found
