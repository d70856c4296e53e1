"""Requests to token services, by the agent's own HTTP session with its proxy and certificates."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson

from agent_service.agent.claude import connection
from agent_service.agent.claude.session import CONNECT_SECONDS, open_session
from agent_service.agent.errors import ModelError, ModelFailedError, OverloadedError, TimedOutError
from agent_service.agent.identity import failures
from agent_service.agent.identity.failures import Words

# Shorter than the timeout of a health check, whose result is then the reason.
TIMEOUT_SECONDS = 4.0

# A token takes a few kilobytes.
_LARGEST_BYTES = 2**16

_ERRORS = (aiohttp.ClientError, OSError)  # TimeoutError is an OSError
_BAD_REQUEST, _TOO_MANY, _FAILED = 400, 429, 500


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of a token service."""

    place: str
    status: int
    content: bytes = field(repr=False)
    skew_seconds: float
    """By how much our clock is ahead of the service's."""

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode(errors="replace")

    def object(self) -> dict[str, Any]:
        """Return the JSON object; raise ModelFailedError if it is none."""
        try:
            found = orjson.loads(self.content)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise failures.unreadable(self.place)
        return found

    def seconds_until(self, moment: datetime) -> float:
        """Return the seconds until a moment by the clock of the service; raise ValueError if there are none."""
        seconds = moment.timestamp() - (time.time() - self.skew_seconds)
        if seconds <= 0:
            raise ValueError("has passed")
        return seconds

    def access_token(self) -> tuple[str, float]:
        """Return the access token of an OAuth 2.0 response, and the seconds that it lives; errors as `object`."""
        found = self.object()
        try:
            value, seconds = found["access_token"], float(found["expires_in"])
        except (LookupError, ValueError, TypeError):
            raise failures.unreadable(self.place) from None
        if not isinstance(value, str) or not value or not 0 < seconds < math.inf:
            raise failures.unreadable(self.place)
        return value, seconds

    def check(self, words: Words) -> None:
        """Raise the error of an unsuccessful response. `words` says what the service's refusals mean.

        Raises:
            CredentialsRefusedError: when the service refused the token.
            OverloadedError: when it asks to come again later.
            ModelFailedError: when it redirects, which is not followed.
        """
        if self.status >= _FAILED or self.status == _TOO_MANY:
            raise OverloadedError(f"{_named(self.place)} is overloaded; try again later.", upstream=self.text)
        if self.status >= _BAD_REQUEST:
            raise failures.of_answer(self.text, self.place, words, skew_seconds=self.skew_seconds)
        if self.status >= 300:  # noqa: PLR2004
            raise ModelFailedError(f"{_named(self.place)} redirects, which is not followed.", kind="redirect")


async def post(
    url: str,
    place: str,
    *,
    form: Mapping[str, str] | None = None,
    json: object = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Return the answer to a POST request. `place` is the name of the service in messages.

    Raises:
        ModelError: when the service cannot be reached, or does not answer in time.
    """
    try:
        async with open_session(url) as session:
            return await _asked(session, "POST", url, place, data=form, json=json, headers=headers)
    except _ERRORS as error:
        raise _unreachable(error, place) from error


async def get_directly(url: str, place: str, *, headers: Mapping[str, str]) -> Answer:
    """Return the answer to a GET request that goes through no proxy. Errors as `post`."""
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS)) as session:
            return await _asked(session, "GET", url, place, headers=headers)
    except _ERRORS as error:
        raise _unreachable(error, place) from error


async def _asked(session: aiohttp.ClientSession, method: str, url: str, place: str, **given: Any) -> Answer:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with session.request(method, url, timeout=timeout, allow_redirects=False, **given) as answer:
        content = b""
        while len(content) < _LARGEST_BYTES and (chunk := await answer.content.readany()):
            content += chunk
        return Answer(place, answer.status, content, skew_seconds(answer.headers.get("Date")))


def skew_seconds(date: str | None) -> float:
    """Return by how much our clock is ahead of the header `Date` of a response that arrived just now; 0 without one."""
    try:
        return 0.0 if date is None else time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return 0.0


def _unreachable(error: Exception, place: str) -> ModelError:
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
        return TimedOutError(f"{_named(place)} did not answer in time.")
    return connection.failed(error, place)


def _named(place: str) -> str:
    """Return a name as the first words of a sentence."""
    return place[:1].upper() + place[1:]
