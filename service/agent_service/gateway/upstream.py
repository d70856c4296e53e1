"""Calls of the model API: with our credential, retried before the first byte, errors without our key."""

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson
import structlog
from yarl import URL

from agent_service.agent.claude import connection
from agent_service.agent.claude.connection import CertificateFileError
from agent_service.agent.claude.credentials import OF_CREDENTIALS, Credentials
from agent_service.agent.claude.retry_after import LONGEST_RETRY_WAIT_SECONDS, wait_seconds
from agent_service.agent.claude.session import CONNECT_SECONDS, open_session
from agent_service.agent.provider import Waiting
from agent_service.gateway import headers
from agent_service.gateway.forms import Form, RefusedError
from agent_service.gateway.question import Question
from agent_service.gateway.reply import Reply, nothing, single
from agent_service.telemetry.redact import for_log

_log = structlog.get_logger(__name__)

_ERRORS = (aiohttp.ClientError, OSError)  # TimeoutError is an OSError
_RETRIED = frozenset({429, 503, 529})
_THROTTLED = frozenset({429, 529})
_FIRST_PAUSE_SECONDS = 0.5

# Of an error, only this much is read, for this long.
_ERROR_BYTES = 2**16
_ERROR_SECONDS = 5.0

_NO_KEY = "This agent has no key for the model API; set ANTHROPIC_API_KEY on the agent, not in the runtime."
_REDIRECT = "The address of the model API redirects to another, which is not followed."
_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN = 400, 401, 403


class Upstream:
    """The model API, called over HTTP; a `ModelApi`."""

    def __init__(
        self, base_url: str, credentials: Credentials | None, *, max_retries: int, silence_seconds: float
    ) -> None:
        """Set up the calls.

        Args:
            base_url: address of the model API.
            credentials: its key; None if there is none, and calls are refused.
            max_retries: number of retries of a call that failed before its answer started.
            silence_seconds: longest time in which the model API may send nothing.
        """
        self._base_url = base_url.rstrip("/")
        self._credentials = credentials
        self._max_retries = max_retries
        self._timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=silence_seconds)
        self._session: aiohttp.ClientSession | None = None
        self.marks = True

    async def call(
        self, path: str, received: Mapping[str, str], question: Question, form: Form, waiting: Waiting
    ) -> Reply:
        """Return the answer of the model API.

        Raises:
            RefusedError: when the model API cannot be reached, refuses our key, or redirects.
        """
        if self._credentials is None:
            raise RefusedError(_UNAUTHORIZED, "authentication_error", _NO_KEY, outcome="credentials_refused")
        key = self._credentials.current()
        credential = {"Authorization": f"Bearer {key}"} if form is Form.CHAT_COMPLETIONS else {"x-api-key": key}
        sent = headers.of_request(received, credential)
        url = URL(self._base_url + path, encoded=True)
        answer = await self._retried(url, sent, question.content, waiting)
        if answer.status < 300:  # noqa: PLR2004
            self._credentials.accept(key)
            return _streamed(answer)
        if answer.status < _BAD_REQUEST:
            answer.close()
            raise RefusedError(502, "api_error", _REDIRECT, outcome="failed")
        body = (await _read(answer)).replace(key.encode(), b"***")
        if answer.status == _BAD_REQUEST and question.unmarked is not None and b"cache_control" in body:
            # A gateway before the model API that does not support the mark; none of later calls is marked.
            self.marks = False
            _log.warning("Model API does not support marks for its cache, sent none", upstream=for_log(_text(body)))
            return await self.call(path, received, question.without_mark(), form, waiting)
        self._check_key(answer.status, body, key, sent)
        return Reply(answer.status, headers.of_answer(answer.headers), single(body), nothing, len(body))

    async def count_tokens(self, path: str, received: Mapping[str, str], question: Question, waiting: Waiting) -> Reply:
        """Return the model API's count of the tokens of a question. Errors as `call`."""
        return await self.call(path, received, question, Form.MESSAGES, waiting)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def _retried(
        self, url: URL, sent: dict[str, str], content: bytes, waiting: Waiting
    ) -> aiohttp.ClientResponse:
        for retry in range(self._max_retries + 1):
            last = retry == self._max_retries
            try:
                if self._session is None:
                    self._session = open_session(self._base_url)
                answer = await self._session.post(
                    url, data=content, headers=sent, timeout=self._timeout, allow_redirects=False
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

    def _check_key(self, status: int, body: bytes, key: str, sent: Mapping[str, str]) -> None:
        """Record a refused key, and raise RefusedError so that the caller receives none of the text about it."""
        if self._credentials is None or status not in {_UNAUTHORIZED, _FORBIDDEN} or not _of_credentials(body):
            return
        _log.warning("Credentials were refused in a call of the runtime", status=status, upstream=for_log(_text(body)))
        if status == _UNAUTHORIZED or "anthropic-beta" not in sent:
            # A 403 for one beta feature does not mean that the key is refused for all calls.
            self._credentials.refuse(key)
        kind = "authentication_error" if status == _UNAUTHORIZED else "permission_error"
        message = f"The model API did not accept the agent's credentials ({status})."
        raise RefusedError(status, kind, message, outcome="credentials_refused")


def _streamed(answer: aiohttp.ClientResponse) -> Reply:
    # aiohttp decompresses what is compressed in spite of our headers; the length is then another one.
    length = None if "Content-Encoding" in answer.headers else answer.content_length
    return Reply(answer.status, headers.of_answer(answer.headers), answer.content.iter_any(), answer.close, length)


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
