"""Calls of the model API: with our credential, retried before the first byte, errors without our key."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import structlog
from yarl import URL

from agent_service.agent.claude import connection
from agent_service.agent.claude.connection import CertificateFileError
from agent_service.agent.claude.credentials import OF_CREDENTIALS, Credential
from agent_service.agent.claude.endpoint import LONG_BYTES, AnyEndpoint, Call, Failure, Rewrite, same
from agent_service.agent.claude.retry_after import LONGEST_RETRY_WAIT_SECONDS, wait_seconds
from agent_service.agent.claude.session import CONNECT_SECONDS, open_session
from agent_service.agent.errors import CredentialsRefusedError, ModelError
from agent_service.agent.provider import Waiting
from agent_service.gateway import headers
from agent_service.gateway.forms import Form, RefusedError
from agent_service.gateway.question import Question
from agent_service.gateway.reply import EVENTS, Reply, nothing, single, unpacked
from agent_service.telemetry.redact import for_log

_log = structlog.get_logger(__name__)

_ERRORS = (aiohttp.ClientError, OSError)  # TimeoutError is an OSError
_RETRIED = frozenset({429, 503, 529})
_THROTTLED = frozenset({429, 529})
_FIRST_PAUSE_SECONDS = 0.5

# Of an error, only this much is read, for this long.
_ERROR_BYTES = 2**16
_ERROR_SECONDS = 5.0

_NO_KEY = (
    "This agent has no key for the model API; set ANTHROPIC_API_KEY, or the credentials of its provider, on the agent "
    "and not in the runtime."
)
_NO_CHATS = "The provider of this agent's model has no Chat Completions API for it; call /v1/messages."
_REDIRECT = "The address of the model API redirects to another, which is not followed."
_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN = 400, 401, 403


class Upstream:
    """The model API, called over HTTP; a `ModelApi`."""

    def __init__(self, endpoint: AnyEndpoint | None, *, max_retries: int, silence_seconds: float) -> None:
        """Set up the calls.

        Args:
            endpoint: where the model API is, with its credentials; None if there are none, and calls are refused.
            max_retries: number of retries of a call that failed before its answer started.
            silence_seconds: longest time in which the model API may send nothing.
        """
        self._endpoint = endpoint
        self._max_retries = max_retries
        self._timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=silence_seconds)
        self._session: aiohttp.ClientSession | None = None
        self.marks = True

    async def call(
        self,
        path: str,
        received: Mapping[str, str],
        question: Question,
        form: Form,
        waiting: Waiting,
        *,
        last: bool = True,
    ) -> Reply:
        """Return the answer of the model API. Failed calls are retried if this is the `last` one that is asked.

        Raises:
            RefusedError: when the model API cannot be reached, refuses our key, or redirects.
        """
        if self._endpoint is None:
            raise RefusedError(_UNAUTHORIZED, "authentication_error", _NO_KEY, outcome="credentials_refused")
        if form is Form.CHAT_COMPLETIONS:
            if not self._endpoint.chats:
                raise RefusedError(404, "not_found_error", _NO_CHATS)
            rewrite = _with_model(Rewrite(path), question)
            return await self._called(self._endpoint, rewrite, received, question, waiting, last=last)
        rewrite = self._endpoint.rewrite(
            Call.MESSAGES, question.model, streamed=question.streamed, betas=headers.betas(received)
        )
        rewrite = _with_model(_as_received(rewrite, path), question)
        return await self._called(self._endpoint, rewrite, received, question, waiting, last=last)

    async def count_tokens(
        self, path: str, received: Mapping[str, str], question: Question, waiting: Waiting, *, last: bool = True
    ) -> Reply:
        """Return the model API's count of the tokens of a question. Retries and errors as `call`."""
        if self._endpoint is None:
            raise RefusedError(_UNAUTHORIZED, "authentication_error", _NO_KEY, outcome="credentials_refused")
        rewrite = self._endpoint.rewrite(Call.COUNT_TOKENS, question.model, betas=headers.betas(received))
        rewrite = _with_model(_as_received(rewrite, path), question)
        return await self._called(self._endpoint, rewrite, received, question, waiting, last=last)

    async def _called(
        self,
        endpoint: AnyEndpoint,
        rewrite: Rewrite,
        received: Mapping[str, str],
        question: Question,
        waiting: Waiting,
        *,
        last: bool = True,
    ) -> Reply:
        credential = await _credential(endpoint)
        written = await _written(rewrite, question.content)
        url = endpoint.address + rewrite.path

        async def authorized() -> dict[str, str]:
            return headers.of_request(received, await endpoint.authorize(credential, url, written))

        retries = self._max_retries if last else 0
        answer = await self._retried(url, authorized, written, waiting, retries)
        if answer.status < 300:  # noqa: PLR2004
            endpoint.credentials.accept(credential)
            return await _successful(endpoint, rewrite, answer)
        if answer.status < _BAD_REQUEST:
            answer.close()
            raise RefusedError(502, "api_error", _REDIRECT, outcome="failed")
        failed = endpoint.failure(answer.status, answer.headers, await _read(answer))
        body = _without_secrets(failed.content, credential)
        if failed.status == _BAD_REQUEST and question.unmarked is not None and b"cache_control" in body:
            # A gateway before the model API that does not support the mark; none of later calls is marked.
            self.marks = False
            _log.warning("Model API does not support marks for its cache, sent none", upstream=for_log(_text(body)))
            return await self._called(endpoint, rewrite, received, question.without_mark(), waiting, last=last)
        _check_credential(endpoint, credential, Failure(failed.status, body), received)
        return Reply(failed.status, headers.of_answer(answer.headers), single(body), nothing, len(body))

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def _retried(
        self,
        url: str,
        make_headers: Callable[[], Awaitable[dict[str, str]]],
        content: bytes,
        waiting: Waiting,
        retries: int,
    ) -> aiohttp.ClientResponse:
        for retry in range(retries + 1):
            last = retry == retries
            # For each attempt, as a signature contains the time.
            sent = await make_headers()
            try:
                if self._session is None:
                    self._session = open_session(url)
                answer = await self._session.post(
                    URL(url, encoded=True), data=content, headers=sent, timeout=self._timeout, allow_redirects=False
                )
            except _ERRORS as error:
                if last or isinstance(error, CertificateFileError):
                    raise _unreachable(error) from error
                await asyncio.sleep(_pause(retry))
                continue
            pause = None if last else _pause_before_retry(answer, retry)
            if pause is None:
                return answer
            answer.close()
            if answer.status in _THROTTLED:
                with waiting():
                    await asyncio.sleep(pause)
            else:
                await asyncio.sleep(pause)
        raise AssertionError("The last attempt returns or raises.")


async def _credential(endpoint: AnyEndpoint) -> Any:
    """Return the credential for a call; raise RefusedError when there is none."""
    try:
        return await endpoint.credentials.current()
    except CredentialsRefusedError as error:
        _log.warning("Credentials for a call of the runtime were refused", upstream=for_log(error.upstream or ""))
        raise RefusedError(_UNAUTHORIZED, "authentication_error", str(error), outcome=error.outcome) from error
    except ModelError as error:
        _log.warning("There were no credentials for a call of the runtime", upstream=for_log(error.upstream or ""))
        raise RefusedError(502, "api_error", str(error), outcome=error.outcome) from error


def _as_received(rewrite: Rewrite, path: str) -> Rewrite:
    """Return a rewrite with the path and query of the caller, if the provider has the same path."""
    return replace(rewrite, path=path) if path.partition("?")[0] == rewrite.path else rewrite


def _with_model(rewrite: Rewrite, question: Question) -> Rewrite:
    """Return a rewrite that names another model than the caller does, if the question has one."""
    if question.named is None or "model" in rewrite.dropped or "model" in rewrite.replaced:
        return rewrite
    return replace(rewrite, replaced={**rewrite.replaced, "model": question.model})


async def _written(rewrite: Rewrite, content: bytes) -> bytes:
    if len(content) <= LONG_BYTES:
        return rewrite.of_bytes(content)
    return await asyncio.to_thread(rewrite.of_bytes, content)


def _without_secrets(body: bytes, credential: Credential) -> bytes:
    for secret in credential.secrets:
        body = body.replace(secret.encode(), b"***")
    return body


def _check_credential(
    endpoint: AnyEndpoint, credential: Credential, failed: Failure, received: Mapping[str, str]
) -> None:
    """Record a refused credential, and raise RefusedError so that the caller receives none of the text about it."""
    if failed.status not in {_UNAUTHORIZED, _FORBIDDEN} or not _of_credentials(failed.content):
        return
    upstream = for_log(_text(failed.content))
    _log.warning("Credentials were refused in a call of the runtime", status=failed.status, upstream=upstream)
    if failed.status == _UNAUTHORIZED or "anthropic-beta" not in received:
        # A 403 for one beta feature does not mean that the key is refused for all calls.
        endpoint.credentials.refuse(credential)
    kind = "authentication_error" if failed.status == _UNAUTHORIZED else "permission_error"
    message = f"The model API did not accept the agent's credentials ({failed.status})."
    raise RefusedError(failed.status, kind, message, outcome="credentials_refused")


async def _successful(endpoint: AnyEndpoint, rewrite: Rewrite, answer: aiohttp.ClientResponse) -> Reply:
    passed = headers.of_answer(answer.headers)
    framing = endpoint.framing(answer.content_type)
    if framing is not None:
        passed["Content-Type"] = EVENTS
        return Reply(answer.status, passed, unpacked(answer.content.iter_any(), framing), answer.close)
    if rewrite.disclose is not same:
        # Only short answers are in an envelope.
        body = rewrite.disclose(await _read(answer))
        return Reply(answer.status, passed, single(body), nothing, len(body))
    # aiohttp decompresses what is compressed in spite of our headers; the length is then another one.
    length = None if "Content-Encoding" in answer.headers else answer.content_length
    return Reply(answer.status, passed, answer.content.iter_any(), answer.close, length)


def _pause_before_retry(answer: aiohttp.ClientResponse, retry: int) -> float | None:
    """Return the time to wait before a retry; None if the answer is passed on."""
    if answer.status not in _RETRIED or answer.headers.get("x-should-retry") == "false":
        return None
    wait = wait_seconds(answer.headers)
    if wait is None:
        return _pause(retry)
    return wait if wait <= LONGEST_RETRY_WAIT_SECONDS else None


def _pause(retry: int) -> float:
    # Randomized by up to half, so that calls that failed at the same time are retried at different times.
    return min(_FIRST_PAUSE_SECONDS * 2.0**retry, LONGEST_RETRY_WAIT_SECONDS) * random.uniform(0.5, 1)  # noqa: S311


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """Return the body of an error as far as it arrives in time and within its bound."""
    body = b""
    try:
        async with asyncio.timeout(_ERROR_SECONDS):
            while len(body) < _ERROR_BYTES and (chunk := await answer.content.readany()):
                body += chunk
    except _ERRORS:
        pass
    finally:
        answer.close()
    return body[:_ERROR_BYTES]


def _unreachable(error: Exception) -> RefusedError:
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
        return RefusedError(504, "timeout_error", "The model API did not answer in time.", outcome="timed_out")
    ours = connection.failed(error)
    _log.warning("Model API could not be called", kind=ours.kind, upstream=for_log(ours.upstream or ""))
    return RefusedError(502, "api_error", str(ours), outcome=ours.outcome)


def _of_credentials(body: bytes) -> bool:
    """Return whether an error is about our key, in Anthropic's form or in OpenAI's."""
    try:
        found: Any = orjson.loads(body)
        about = found["error"]
        return about.get("type") in OF_CREDENTIALS or about.get("code") in {*OF_CREDENTIALS, "invalid_api_key"}
    except (ValueError, LookupError, TypeError, AttributeError):
        return False


def _text(body: bytes) -> str:
    return body.decode(errors="replace")
