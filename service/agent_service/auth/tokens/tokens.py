"""Identifies clients by their tokens."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from agent_service.auth.identity import Client, Refusal
from agent_service.auth.tokens.issuer_keys import REAL_TIME, Clock, IssuerKeys
from agent_service.auth.tokens.verification import Unverified, Verified, is_current, looks_like_token, read, verify
from agent_service.config.issuers import Issuer, parse_issuers, read_issuers
from agent_service.config.secret_file import SecretFile
from agent_service.telemetry.caller_metrics import CallerMetrics

# A client sends a token many times. This many take about 2 MB; the least recently used is forgotten first.
_MOST_KNOWN = 4096

_UNKNOWN_ISSUER = Refusal("invalid_token", "issuer", "The token is from an issuer that this agent does not know")
_UNAVAILABLE = Refusal(
    "unavailable",
    "unavailable",
    "The token cannot be verified: the keys of its issuer could not be fetched yet; send it again in a moment",
)


class IssuerState(NamedTuple):
    """An issuer, why its keys could not be fetched at the last try (None: they were), and how many are in use."""

    issuer: str
    failure: str | None
    keys: int


class Tokens:
    """The tokens of the issuers in JWT_FILE, which is read again when it changes."""

    def __init__(self, file: Path, metrics: CallerMetrics, clock: Clock = REAL_TIME) -> None:
        """Read the file. The keys are fetched from when the context `running` is entered.

        Raises:
            IssuersFileError: if the file cannot be used.
        """
        self._file = SecretFile(read_issuers(file), file, parse_issuers)
        self._metrics = metrics
        self._clock = clock
        self._issuers: tuple[Issuer, ...] = ()
        self._keys: dict[str, IssuerKeys] = {}
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._known: OrderedDict[bytes, tuple[Verified, IssuerKeys, int]] = OrderedDict()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the keys of the issuers fresh while the context lasts."""
        self._follow()
        try:
            yield
        finally:
            fetching = list(self._fetching.values())
            for task in fetching:
                task.cancel()
            await asyncio.gather(*fetching, *(keys.close() for keys in self._keys.values()), return_exceptions=True)

    async def identify(self, token: bytes) -> Client | Refusal | None:
        """Return the client of a token, or why the token is refused; None if the credential is not a token."""
        if not looks_like_token(token):
            return None
        self._follow()
        digest = hashlib.sha256(token).digest()
        known = self._known.get(digest)
        if known is not None and self._still_holds(*known):
            self._known.move_to_end(digest)
            return known[0].client
        unverified = read(token)
        if isinstance(unverified, Refusal):
            return unverified
        keys = self._keys.get(unverified.issuer)
        if keys is None:
            return _UNKNOWN_ISSUER
        found = await _verified(token, unverified, keys)
        if isinstance(found, Refusal):
            return found
        self._known[digest] = (found, keys, keys.generation)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return found.client

    @property
    def issuers(self) -> tuple[Issuer, ...]:
        """The issuers in the file."""
        return self._file.current()

    def states(self) -> list[IssuerState]:
        """Return the state of each issuer, in the order of the file."""
        return [
            IssuerState(issuer.issuer, keys.failure, len(keys.keys or ()))
            for issuer in self._issuers
            if (keys := self._keys.get(issuer.issuer)) is not None
        ]

    def _still_holds(self, verified: Verified, keys: IssuerKeys, generation: int) -> bool:
        current = self._keys.get(keys.issuer.issuer) is keys and keys.generation == generation
        return current and is_current(verified)

    def _follow(self) -> None:
        """Apply the file. An issuer that has not changed keeps its keys."""
        issuers = self._file.current()
        if issuers is self._issuers:
            return
        self._issuers = issuers
        kept = {each.issuer: each for each in issuers}
        for name, keys in list(self._keys.items()):
            if kept.get(name) != keys.issuer:
                self._fetching.pop(name).cancel()
                del self._keys[name]
            if name not in kept:
                self._metrics.forget_issuer(name)
        for issuer in issuers:
            if issuer.issuer not in self._keys:
                keys = self._keys[issuer.issuer] = IssuerKeys(issuer, self._metrics, self._clock)
                self._fetching[issuer.issuer] = asyncio.create_task(keys.keep_fresh())


async def _verified(token: bytes, unverified: Unverified, keys: IssuerKeys) -> Verified | Refusal:
    """Verify a token. If no key fits, the issuer may have a new one."""
    found = None if keys.keys is None else verify(token, unverified, keys.issuer, keys.keys)
    if found is None or (isinstance(found, Refusal) and found.reason == "signature"):
        await keys.fetch_for_unknown()
        found = None if keys.keys is None else verify(token, unverified, keys.issuer, keys.keys)
    return _UNAVAILABLE if found is None else found
