"""The provider that speaks to the Anthropic Messages API, through the official SDK."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import anthropic
import httpx2
from anthropic.types import MessageDeltaUsage, MessageParam, RawMessageStreamEvent
from anthropic.types import Usage as MessageUsage

from agent_service.agent.credentials import Credentials
from agent_service.agent.errors import (
    CredentialsRefusedError,
    ModelDeclinedError,
    ModelError,
    ModelFailedError,
    ModelRefusedError,
    OverloadedError,
    RateLimitedError,
    TimedOutError,
    UnreachableError,
)
from agent_service.agent.provider import Prompt, Usage

# A pod that has no answer to its SYN within this time has no route; waiting longer only holds the client.
CONNECT_SECONDS = 5.0

# The SDK keeps 100 of its 1,000 connections alive; then every wave of more than 100 chats pays for TLS anew. The
# expiry stays below the idle timeouts of common load balancers (60 s), so that we close first.
LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=1000, keepalive_expiry=30.0)

# One retry repairs a connection that was closed while idle and a hiccup of the API. More is the client's choice:
# somebody is waiting.
RETRIES = 1

# The SDK sleeps for as long as `Retry-After` says. Up to this many seconds that beats an error, beyond it the client
# is better told at once.
LONGEST_RETRY_WAIT_SECONDS = 2.0

# `check` is for people and monitors that wait for an answer themselves.
CHECK_SECONDS = 5.0


class ClaudeProvider:
    """One client, and with it one pool of connections, for the whole process."""

    def __init__(
        self,
        *,
        model: str,
        max_tokens: int,
        timeout_seconds: float,
        credentials: Credentials,
        base_url: str | None = None,
    ) -> None:
        self.model = model
        self._max_tokens = max_tokens
        self._credentials = credentials
        timeout = httpx2.Timeout(timeout_seconds, connect=min(CONNECT_SECONDS, timeout_seconds))
        self._client = anthropic.AsyncAnthropic(
            api_key=credentials.current(),
            base_url=base_url,
            timeout=timeout,
            max_retries=RETRIES,
            http_client=anthropic.DefaultAioHttpClient(
                limits=LIMITS, timeout=timeout, event_hooks={"response": [_no_long_retry_wait]}
            ),
            open_telemetry=False,
        )

    async def stream(self, prompt: Prompt, usage: Usage) -> AsyncGenerator[str]:
        """Give the answer's text as it comes in.

        Always a streamed call: the SDK refuses a plain one with more than about 21,000 `max_tokens`.
        """
        async with self._translated():
            answer = await self._client.messages.create(
                model=self.model,
                max_tokens=self._max_tokens,
                messages=_messages(prompt),
                system=prompt.system or anthropic.omit,
                stream=True,
            )
            async with answer:
                complete = False
                async for event in answer:
                    if event.type == "content_block_delta" and event.delta.type == "text_delta":
                        yield event.delta.text
                    else:
                        complete = _note(event, usage) or complete
            if not complete:
                raise ModelFailedError("The model API ended its answer early.")

    async def check(self) -> None:
        """Ask the API to count the tokens of one word: it takes the key and the model's name, and costs nothing."""
        async with self._translated():
            await self._client.with_options(max_retries=0, timeout=CHECK_SECONDS).messages.count_tokens(
                model=self.model, messages=[{"role": "user", "content": "ping"}]
            )

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
        except (anthropic.AnthropicError, httpx2.HTTPError) as error:
            translated = translate(error)
            if isinstance(translated, CredentialsRefusedError):
                self._credentials.refuse(key)
            raise translated from error
        except ValueError as error:
            # A gateway that answers 200 with something that is no event stream.
            raise ModelFailedError("The model API gave an answer that could not be read.") from error
        self._credentials.accept(key)


def _messages(prompt: Prompt) -> list[MessageParam]:
    messages: list[MessageParam] = []
    for exchange in prompt.history:
        messages.append({"role": "user", "content": exchange.user})
        messages.append({"role": "assistant", "content": exchange.assistant})
    messages.append({"role": "user", "content": prompt.message})
    return messages


def _note(event: RawMessageStreamEvent, usage: Usage) -> bool:
    """Take what an event says beside text; whether it ends the answer."""
    if event.type == "message_start":
        usage.input_tokens = _input_tokens(event.message.usage)
        usage.output_tokens = event.message.usage.output_tokens
    elif event.type == "message_delta":
        usage.input_tokens = _input_tokens(event.usage) or usage.input_tokens
        usage.output_tokens = event.usage.output_tokens
        usage.stop_reason = event.delta.stop_reason
        if event.delta.stop_reason == "refusal":
            raise ModelDeclinedError("The model declined to answer this message.")
    return event.type == "message_stop"


def _input_tokens(usage: MessageUsage | MessageDeltaUsage) -> int:
    # "Total input tokens in a request is the summation" of the three (SDK, types/usage.py).
    cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    return (usage.input_tokens or 0) + cached


async def _no_long_retry_wait(response: httpx2.Response) -> None:
    """Tell the SDK, by the header that it obeys, not to retry when that would mean a long sleep."""
    wait = _retry_after(response)
    if response.is_error and wait is not None and wait > LONGEST_RETRY_WAIT_SECONDS:
        response.headers["x-should-retry"] = "false"


def _retry_after(response: httpx2.Response) -> int | None:
    """Give `Retry-After` in whole seconds, rounded up; None when absent or a date."""
    value = response.headers.get("retry-after", "")
    try:
        return max(0, -int(-float(value) // 1))
    except (ValueError, OverflowError):
        return None


def translate(error: Exception) -> ModelError:
    """Give our error for one of the SDK's or of the HTTP library below it (which shows while a stream is read)."""
    if isinstance(error, anthropic.APIStatusError):
        return _from_answer(error)
    cause = error.__cause__ if isinstance(error, anthropic.APIConnectionError) else error
    if isinstance(cause, httpx2.TimeoutException) and not isinstance(cause, httpx2.ConnectTimeout):
        return TimedOutError("The model API did not answer in time.")
    if isinstance(error, anthropic.APIConnectionError) or isinstance(
        cause, httpx2.ConnectError | httpx2.ConnectTimeout
    ):
        return UnreachableError("There is no connection to the model API.")
    if isinstance(error, httpx2.HTTPError):
        return ModelFailedError("The model API broke off its answer.")
    return ModelFailedError("The model API gave an answer that could not be read.")


def _from_answer(error: anthropic.APIStatusError) -> ModelError:
    # An error that comes as an event of a stream has the stream's status, 200: its type is then all there is.
    status = error.status_code if error.status_code >= 400 else _STATUS_OF_TYPE.get(error.type or "", 500)  # noqa: PLR2004
    wait = _retry_after(error.response)
    if status in {401, 403}:
        # The API's own words might quote the key: they stay here.
        return CredentialsRefusedError(f"The model API did not accept the agent's credentials ({status}).")
    if status == 429:  # noqa: PLR2004
        return RateLimitedError("The model API limits the rate of requests; try again later.", wait)
    if status in {503, 529}:
        return OverloadedError("The model API is overloaded; try again later.", wait)
    if status in {408, 504}:
        return TimedOutError("The model API did not answer in time.")
    if status >= 500:  # noqa: PLR2004
        return ModelFailedError(f"The model API failed ({status}).")
    reason = f": {error.api_message:.200}" if error.api_message else "."
    return ModelRefusedError(f"The model API refused the request ({status}){reason}")


# https://docs.claude.com/en/api/errors
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


async def recheck_refused_credentials(
    provider: ClaudeProvider, credentials: Credentials, *, every_seconds: float
) -> None:
    """Look again from time to time whether refused credentials are accepted, for as long as the task runs.

    A pod with refused credentials is not ready, gets no traffic, and so would never learn from a request that its key
    works again.
    """
    while True:
        await asyncio.sleep(every_seconds)
        if credentials.refused:
            try:
                await provider.check()
            except ModelError:
                continue
