"""The key of a Google service account, and its exchange for an access token.

Google, "Using OAuth 2.0 for Server to Server Applications" (RFC 7523).
"""

import json
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from google.auth import jwt
from google.auth.crypt import RSASigner

from agent_service.agent.claude import connection
from agent_service.agent.claude.credentials import Token
from agent_service.agent.claude.renewal import Observe, Renewed, unobserved
from agent_service.agent.claude.session import open_session
from agent_service.agent.errors import (
    CredentialsRefusedError,
    ModelError,
    ModelFailedError,
    OverloadedError,
    TimedOutError,
)
from agent_service.config.secret_file import SecretFile
from agent_service.config.values import valid_service_account_key
from agent_service.network.addresses import http_address

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"

# The longest life of an assertion. The token lives as long.
_LIFE_SECONDS = 3600

# Shorter than the timeout of a health check, whose result is then the reason.
_TIMEOUT = aiohttp.ClientTimeout(total=4.0)

# A token takes a few kilobytes.
_LARGEST_BYTES = 2**16

_ERRORS = (aiohttp.ClientError, OSError)  # TimeoutError is an OSError
_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN = 400, 401, 403


@dataclass(frozen=True, slots=True)
class ServiceAccountKey:
    """The parts of the JSON file."""

    email: str
    key_id: str
    private_key: str = field(repr=False)
    token_uri: str


def read_key(text: str) -> ServiceAccountKey:
    """Return the key in the content of a JSON file.

    Raises:
        ValueError: when it is not the key of a service account.
    """
    found: dict[str, Any] = json.loads(valid_service_account_key(text))
    address = http_address(found.get("token_uri") or "https://oauth2.googleapis.com/token")
    return ServiceAccountKey(found["client_email"], found["private_key_id"], found["private_key"], address)


def service_account_tokens(text: str, file: Path | None = None, observe: Observe = unobserved) -> Renewed[Token]:
    """Return the tokens for a key, which changes with its file if it has one. `observe` as for `Renewed`.

    Raises:
        ValueError: as `read_key`.
    """
    key = SecretFile(read_key(text), file, read_key)

    async def exchange(_: Hashable) -> tuple[Token, float]:
        used = key.current()
        value, seconds = await _exchanged(used)
        return Token(value, used), seconds

    return Renewed(key.current, exchange, observe=observe)


def assertion(key: ServiceAccountKey, now: float) -> str:
    """Return the signed request for a token; raise CredentialsRefusedError if the key cannot sign."""
    claims = {
        "iss": key.email,
        "scope": _SCOPE,
        "aud": key.token_uri,
        "iat": int(now),
        "exp": int(now) + _LIFE_SECONDS,
    }
    try:
        signer = RSASigner.from_string(key.private_key, key.key_id)  # type: ignore[no-untyped-call]
        signed: bytes = jwt.encode(signer, claims)  # type: ignore[no-untyped-call]
    except Exception as error:
        # The libraries differ in what they raise, and quote parts of the key.
        raise CredentialsRefusedError(
            "The private key of the Google service account cannot be used.", upstream=type(error).__name__
        ) from None
    return signed.decode()


async def _exchanged(key: ServiceAccountKey) -> tuple[str, float]:
    form = {"grant_type": _GRANT, "assertion": assertion(key, time.time())}
    try:
        async with (
            open_session(key.token_uri) as session,
            session.post(key.token_uri, data=form, timeout=_TIMEOUT, allow_redirects=False) as answer,
        ):
            content = b""
            while len(content) < _LARGEST_BYTES and (chunk := await answer.content.readany()):
                content += chunk
            return _token(answer.status, content)
    except _ERRORS as error:
        raise _unreachable(error) from error


def _token(status: int, content: bytes) -> tuple[str, float]:
    """Return the token in an answer and the seconds that it lives."""
    text = content.decode(errors="replace")
    if status in {_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN}:
        raise CredentialsRefusedError("Google did not accept the key of the service account.", upstream=text)
    if status >= 500 or status == 429:  # noqa: PLR2004
        raise OverloadedError("Google's token endpoint is overloaded; try again later.", upstream=text)
    try:
        found = json.loads(text)
        token, seconds = found["access_token"], float(found["expires_in"])
    except (ValueError, LookupError, TypeError) as error:
        raise ModelFailedError(
            "Google's token endpoint returned an answer that could not be read.", kind="unreadable"
        ) from error
    if not isinstance(token, str) or not token or seconds <= 0:
        raise ModelFailedError("Google's token endpoint returned no token.", kind="unreadable")
    return token, seconds


def _unreachable(error: Exception) -> ModelError:
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
        return TimedOutError("Google's token endpoint did not answer in time.")
    return connection.failed(error, "Google's token endpoint")
