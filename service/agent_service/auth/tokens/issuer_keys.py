"""The keys of one issuer: fetched in the background, and kept while the issuer is down."""

import asyncio
import errno
import random
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import orjson
import structlog

from agent_service.auth.tokens.key_set import KeySetError, PublicKey, key_set
from agent_service.config.issuers import Issuer
from agent_service.network.addresses import http_address
from agent_service.network.errors import failure_of
from agent_service.network.proxy import ProxyError, proxy_for
from agent_service.network.refused_addresses import is_refused, is_refused_host
from agent_service.telemetry.caller_metrics import CallerMetrics

_log = structlog.get_logger(__name__)

# An issuer publishes a new key some time before it signs with it, and a withdrawn key must not work for long.
_REFRESH_SECONDS = 300.0
# Replicas that start together must not fetch together for ever.
_JITTER = 0.1
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 1.0, 60.0

# Tokens with unknown keys, which anyone can send, cause at most one fetch in this time.
_BETWEEN_FETCHES_SECONDS = 10.0

# For both requests of a fetch. A client waits for it if its token has an unknown key.
_FETCH_SECONDS = 5.0
_LARGEST_ANSWER_BYTES = 512 * 1024

_OK = 200
_REDIRECTS = range(300, 400)
_REFUSED = "the address is link-local or of a metadata service"


class FetchError(Exception):
    """The keys could not be fetched. The message is for the log; `kind` is a word for anyone."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Clock:
    """The time by which keys are fetched, in seconds, and the wait for it."""

    seconds: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


REAL_TIME = Clock()


class IssuerKeys:
    """The keys of an issuer, as last fetched."""

    def __init__(self, issuer: Issuer, metrics: CallerMetrics, clock: Clock = REAL_TIME) -> None:
        self.issuer = issuer
        self.keys: tuple[PublicKey, ...] | None = None
        """The keys; None until they were fetched once."""
        self.generation = 0
        """Changes with the keys."""
        self._metrics = metrics
        self._fetching: asyncio.Task[bool] | None = None
        self._clock = clock
        self._fetched_at = -_BETWEEN_FETCHES_SECONDS
        self.failure: str | None = None
        """Why the last fetch failed, in one word; None if it succeeded, or before the first one."""

    async def keep_fresh(self) -> None:
        """Fetch the keys, now and in intervals. Failures are retried, and logged once."""
        pause = _FIRST_RETRY_SECONDS
        while True:
            if await self._fetch():
                pause = _FIRST_RETRY_SECONDS
                await self._clock.sleep(_REFRESH_SECONDS * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311  no secret
            else:
                await self._clock.sleep(pause * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311  no secret
                pause = min(pause * 2, _LONGEST_RETRY_SECONDS)

    async def fetch_for_unknown(self) -> None:
        """Fetch the keys because none fits a token, unless they were just fetched. Several callers share one fetch."""
        recent = self._clock.seconds() - self._fetched_at < _BETWEEN_FETCHES_SECONDS
        if self._fetching is not None or not recent:
            await self._fetch()

    async def close(self) -> None:
        """End a fetch in progress."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    async def _fetch(self) -> bool:
        """Fetch the keys, and return whether that succeeded."""
        if self._fetching is None:
            self._fetched_at = self._clock.seconds()
            self._fetching = asyncio.create_task(self._replace())
            self._fetching.add_done_callback(self._ended)
        # One caller that leaves must not end the fetch of all.
        return await asyncio.shield(self._fetching)

    def _ended(self, _: "asyncio.Task[bool]") -> None:
        self._fetching = None

    async def _replace(self) -> bool:
        try:
            keys = await _fetched(self.issuer)
        except FetchError as error:
            if self.failure is None:
                _log.warning(
                    "Keys of an issuer could not be fetched, kept the previous ones",
                    issuer=self.issuer.issuer,
                    reason=str(error),
                    keys=len(self.keys or ()),
                )
            self.failure = error.kind
            self._metrics.issuer_up.labels(self.issuer.issuer).set(0)
            return False
        before = {key.thumbprint for key in self.keys or ()}
        if self.failure is not None or self.keys is None or before != {key.thumbprint for key in keys}:
            _log.info("Keys of an issuer were fetched", issuer=self.issuer.issuer, keys=len(keys))
        self.failure = None
        self._metrics.issuer_up.labels(self.issuer.issuer).set(1)
        if self.keys != keys:
            self.generation += 1
        self.keys = keys
        return True


async def _fetched(issuer: Issuer) -> tuple[PublicKey, ...]:
    try:
        async with asyncio.timeout(_FETCH_SECONDS):
            return key_set(await _json(issuer.jwks_url or await _discovered(issuer.issuer)))
    except KeySetError as error:
        raise FetchError("unreadable", f"the answer {error}") from None
    except TimeoutError:
        raise FetchError("timed_out", f"there was no answer within {_FETCH_SECONDS:g} seconds") from None
    except (aiohttp.ClientError, OSError, ProxyError) as error:
        raise FetchError(_kind(error), f"{type(error).__name__}: {error}"[:200]) from None


def _kind(error: Exception) -> str:
    # The client keeps no more than the text of an error in `_socket`.
    if _REFUSED in str(error):
        return "address_refused"
    return failure_of([error, *([error.__cause__] if error.__cause__ else [])]) or "unreachable"


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket, but none for a metadata service, which the issuer's own document could name as well."""
    family, kind, protocol, _, where = address
    if is_refused(str(where[0])):
        raise OSError(errno.EACCES, _REFUSED)
    return socket.socket(family, kind, protocol)


async def _discovered(issuer: str) -> str:
    """Return the address of the key set (OpenID Connect Discovery 1.0, 4)."""
    document = await _json(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        same = "compare the addresses character by character"
        raise FetchError("other_issuer", f"the discovery document is of another issuer; {same}")
    url = document.get("jwks_uri")
    try:
        http_address(str(url).partition("?")[0])
    except ValueError:
        raise FetchError("unreadable", "the discovery document has no usable jwks_uri") from None
    # An attacker who can change what is sent without TLS could sign tokens.
    if urlsplit(issuer).scheme == "https" and urlsplit(str(url)).scheme != "https":
        raise FetchError(
            "unreadable", "the jwks_uri in the discovery document begins with http, but the issuer with https"
        )
    return str(url)


async def _json(url: str) -> object:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    proxy = proxy_for(url, any_scheme=True)
    # A proxy resolves names itself, so only an address that is written in the URL can be checked then.
    if proxy is not None and is_refused_host(urlsplit(url).hostname or ""):
        raise FetchError("address_refused", _REFUSED)
    connector = aiohttp.TCPConnector(socket_factory=_socket if proxy is None else None)
    # What is compressed could be far larger than what is received. It is not requested.
    async with (
        aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
        session.get(url, headers=headers, allow_redirects=False, proxy=proxy) as response,
    ):
        if response.status != _OK:
            kind = "redirect" if response.status in _REDIRECTS else "refused"
            raise FetchError(kind, f"status {response.status}; redirects are not followed")
        content = bytearray()
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > _LARGEST_ANSWER_BYTES:
                raise FetchError("unreadable", f"the answer has more than {_LARGEST_ANSWER_BYTES} bytes")
    try:
        return orjson.loads(bytes(content))
    except orjson.JSONDecodeError:
        raise FetchError("unreadable", "the answer is not JSON") from None
