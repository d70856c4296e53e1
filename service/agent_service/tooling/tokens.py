"""Access tokens by the OAuth grant `client_credentials` (RFC 6749, 4.4)."""

import asyncio
import base64
import time
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote_plus, urlencode

import httpx2
import orjson

from agent_service.config.tools import ClientCredentials
from agent_service.tooling.dialing import CONNECTION_ERRORS, open_pool
from agent_service.tooling.secrets import CredentialsError, SecretValue, TokenError

# For the whole request of a token.
_REQUEST_SECONDS = 10.0
_LARGEST_ANSWER_BYTES = 64 * 1024

# A token is renewed before it expires, so that it does not expire on its way.
_EARLY_SECONDS = 60.0
_EARLY_SHARE = 0.2


class Tokens:
    """The current token of one client. Concurrent calls share one request for a new token."""

    def __init__(self, grant: ClientCredentials, folder: Path, *, allow_link_local: bool) -> None:
        self._grant = grant
        self._allow_link_local = allow_link_local
        self._id = (
            None if grant.client_id_secret_key_ref is None else SecretValue(folder, grant.client_id_secret_key_ref)
        )
        self._secret = SecretValue(folder, grant.client_secret_key_ref)
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._client: tuple[str, str] | None = None
        self._renew_at = self._expires_at = 0.0
        self._in_body = False

    def known(self) -> list[str]:
        """Return the secrets in use, so that they can be removed from texts."""
        return [value for value in (self._token, None if self._client is None else self._client[1]) if value]

    async def current(self) -> str:
        """Return a token that is valid now; request one if needed.

        Raises:
            CredentialsError: if there is none.
        """
        async with self._lock:
            client = (self._grant.client_id or (self._id.current() if self._id else ""), self._secret.current())
            now = time.monotonic()
            if self._token is not None and client == self._client and now < self._renew_at:
                return self._token
            try:
                await self._request(client)
            except CredentialsError:
                if self._token is None or client != self._client or now >= self._expires_at:
                    raise
                # Early renewal failed; the token still works.
                return self._token
            return str(self._token)

    def refused(self, token: str) -> None:
        """Discard a token that the server refused, unless it was renewed since."""
        if token == self._token:
            self._token = None

    async def _request(self, client: tuple[str, str]) -> None:
        status, answer = await self._post(client, in_body=self._in_body)
        # Servers must accept HTTP Basic, but some accept only the form (RFC 6749, 2.3.1).
        if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED} and answer.get("error") == "invalid_client":
            self._in_body = not self._in_body
            status, answer = await self._post(client, in_body=self._in_body)
        token, kind = answer.get("access_token"), str(answer.get("token_type", "bearer"))
        usable = isinstance(token, str) and token.isascii() and token.isprintable() and bool(token)
        if status != HTTPStatus.OK or not usable or kind.lower() != "bearer":
            raise TokenError(f"the token endpoint answered with status {status} and no usable token")
        lifetime = answer.get("expires_in")
        seconds = float(lifetime) if isinstance(lifetime, int | float) and lifetime > 0 else float("inf")
        now = time.monotonic()
        self._token, self._client = str(token), client
        self._expires_at = now + seconds
        self._renew_at = self._expires_at - min(_EARLY_SECONDS, seconds * _EARLY_SHARE)

    async def _post(self, client: tuple[str, str], *, in_body: bool) -> tuple[int, dict[str, object]]:
        grant = self._grant
        form = {"grant_type": "client_credentials", "scope": " ".join(grant.scopes)}
        form |= {"audience": grant.audience or "", "resource": grant.resource or ""}
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        headers["accept-encoding"] = "identity"
        if in_body:
            form |= {"client_id": client[0], "client_secret": client[1]}
        else:
            pair = ":".join(map(quote_plus, client))
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        body = urlencode({name: value for name, value in form.items() if value}).encode()
        headers["content-length"] = str(len(body))
        try:
            async with (
                asyncio.timeout(_REQUEST_SECONDS),
                open_pool(grant.token_url, allow_link_local=self._allow_link_local, most_connections=1) as pool,
                pool.stream("POST", grant.token_url, headers=_raw(grant.token_url, headers), content=body) as response,
            ):
                content = bytearray()
                async for chunk in response.aiter_stream():
                    content += chunk
                    if len(content) > _LARGEST_ANSWER_BYTES:
                        raise TokenError("the answer of the token endpoint is too large")
                return response.status, _fields(bytes(content))
        except TimeoutError:
            raise TokenError(f"the token endpoint did not answer within {_REQUEST_SECONDS:g} seconds") from None
        # OSError is from the certificates.
        except (*CONNECTION_ERRORS, OSError) as error:
            raise TokenError(f"the token endpoint cannot be used: {type(error).__name__}") from None


def _raw(url: str, headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    host = httpx2.URL(url).netloc
    return [(b"host", host), *((name.encode(), value.encode()) for name, value in headers.items())]


def _fields(content: bytes) -> dict[str, object]:
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}
