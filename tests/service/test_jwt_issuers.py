"""Faults of the issuer of tokens: an outage of an hour, and answers that cannot be used."""

import asyncio
import base64
import gzip
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import KeySet, OKPKey
from prometheus_client import CollectorRegistry

from agent_service.auth.identity import Client, Refusal
from agent_service.auth.tokens.issuer_keys import REAL_TIME, Clock
from agent_service.auth.tokens.tokens import Tokens
from agent_service.telemetry.caller_metrics import CallerMetrics
from support.agent import StartService
from support.eventually import eventually, eventually_async
from support.faulty_issuer import answering, ec_key
from support.issuer import AUDIENCE, Issuer, rsa_key, running_issuer

HOUR_SECONDS = 3600.0


@dataclass
class MovedTime:
    """A clock that a test moves: a wait takes no time until the time that the test allows is reached."""

    now: float = 0.0
    until: float = 0.0
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def sleep(self, seconds: float) -> None:
        """Return at once if the wait ends within what the test allows, and otherwise when it allows it."""
        while self.now + seconds > self.until:
            self.reached.set()
            self.moved.clear()
            await self.moved.wait()
        self.now += seconds
        await asyncio.sleep(0)

    async def move(self, seconds: float) -> None:
        """Let the time pass, with all that is done in it."""
        self.reached.clear()
        self.until += seconds
        self.moved.set()
        await self.reached.wait()
        self.now = self.until

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, self.sleep)


@asynccontextmanager
async def running(file: Path, clock: Clock = REAL_TIME) -> AsyncIterator[Tokens]:
    tokens = Tokens(file, CallerMetrics(CollectorRegistry()), clock)
    async with tokens.running():
        yield tokens


async def reason(tokens: Tokens, token: str) -> str | None:
    """Return why a token is refused; None if it is accepted."""
    found = await tokens.identify(token.encode())
    assert isinstance(found, Client | Refusal)
    return found.reason if isinstance(found, Refusal) else None


async def accepts(tokens: Tokens, token: str, moved: MovedTime | None = None) -> None:
    """Wait until a token is accepted: a fetch of the keys may time out on a busy machine."""

    async def accepted() -> bool:
        if moved is not None:
            await moved.move(1)
        return await reason(tokens, token) is None

    await eventually_async(accepted, "the token is accepted", seconds=90)


async def fails(tokens: Tokens, kind: str) -> None:
    """Wait until a fetch of the keys fails for this reason."""

    async def failed() -> bool:
        return tokens.states()[0].failure == kind

    await eventually_async(failed, f"the keys cannot be fetched ({kind})", seconds=90)


async def test_an_outage_of_an_hour_costs_only_new_keys_and_few_requests(tmp_path: Path) -> None:
    time_of_test = MovedTime()
    with running_issuer(tmp_path / "issuer") as issuer:
        async with running(issuer.file(tmp_path / "jwt.json"), time_of_test.clock) as tokens:
            await accepts(tokens, issuer.token(), time_of_test)
            issuer.stop()
            await time_of_test.move(HOUR_SECONDS)
            # A token that is signed with a known key, by an issuer whose keys cannot be fetched.
            assert await reason(tokens, issuer.token(sub="bob", exp=int(time.time()) + 300)) is None
            assert await reason(tokens, issuer.token(sub="eve", exp=int(time.time()) - 300)) == "expired"
            rotated = rsa_key("two")
            assert await reason(tokens, issuer.token(key=rotated)) == "signature"
            before = issuer.fetches()
            issuer.publish(rotated)
            issuer.start()
            # The longest wait between two attempts is a minute.
            await time_of_test.move(120)
            await accepts(tokens, issuer.token(sub="carol"), time_of_test)
            assert await reason(tokens, issuer.token(key=rsa_key("one"))) == "signature"
            assert issuer.fetches() - before <= 5


async def test_attempts_during_an_outage_are_spaced(tmp_path: Path) -> None:
    time_of_test = MovedTime()
    with answering(lambda _: (503, b"")) as issuer:
        async with running(issuer.file(tmp_path / "jwt.json"), time_of_test.clock) as tokens:
            await time_of_test.move(HOUR_SECONDS)
            assert 55 <= issuer.requests <= 80
            assert await reason(tokens, issuer.token()) == "unavailable"


FAULTS: dict[str, tuple[str, Callable[[bytes], tuple[int, bytes, dict[str, str]]]]] = {
    "huge": ("unreadable", lambda keys: (200, keys + b" " * 600_000, {})),
    "an error": ("refused", lambda keys: (404, keys, {})),
    "a redirect": ("redirect", lambda _: (302, b"", {"Location": "http://127.0.0.1:9/keys.json"})),
    "compressed": ("unreadable", lambda keys: (200, gzip.compress(keys), {"Content-Encoding": "gzip"})),
    "no JSON": ("unreadable", lambda _: (200, b"<html>", {})),
    "no key set": ("unreadable", lambda _: (200, b"[1, 2]", {})),
    "no keys": ("unreadable", lambda _: (200, b'{"keys": []}', {})),
    "a secret": (
        "unreadable",
        lambda _: (200, b'{"keys": [{"kty": "oct", "k": "c2VjcmV0LXNlY3Jl", "alg": "HS256"}]}', {}),
    ),
    "a weak key": ("unreadable", lambda _: (200, _weak_key_set(), {})),
    "keys for encryption": ("unreadable", lambda keys: (200, keys.replace(b'"sig"', b'"enc"'), {})),
}


def _weak_key_set() -> bytes:
    return json.dumps({"keys": [rsa_key("w", bits=1024).as_dict(private=False)]}).encode()


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_answer_that_cannot_be_used_leaves_tokens_unverified(fault: str, tmp_path: Path) -> None:
    one = ec_key("one")
    kind, answer = FAULTS[fault]
    status, body, headers = answer(json.dumps(KeySet([one]).as_dict(private=False)).encode())
    with answering(lambda _: (status, body), headers) as issuer:
        issuer.keys = [one]
        async with running(issuer.file(tmp_path / "jwt.json", jwksUrl=f"{issuer.url}/keys.json")) as tokens:
            await fails(tokens, kind)
            assert await reason(tokens, issuer.token()) == "unavailable"


async def test_an_issuer_that_never_answers_does_not_hold_a_request_for_long(tmp_path: Path) -> None:
    ends = threading.Event()

    def silent(_: str) -> tuple[int, bytes]:
        ends.wait()
        return 200, b""

    with answering(silent) as issuer:
        try:
            async with running(issuer.file(tmp_path / "jwt.json")) as tokens:
                async with asyncio.timeout(60):
                    assert await reason(tokens, issuer.token()) == "unavailable"
        finally:
            ends.set()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"issuer": "http://other.example"}, "other_issuer"),
        ({"jwks_uri": "file:///etc/passwd"}, "unreadable"),
        ({"jwks_uri": f"http://{'a' * 64}.example/keys.json"}, "unreadable"),
    ],
)
async def test_a_discovery_document_with_another_issuer_or_no_usable_address_is_refused(
    change: dict[str, str], kind: str, tmp_path: Path
) -> None:
    def answer(path: str) -> tuple[int, bytes]:
        return 200, issuer.discovery(**change) if "well-known" in path else issuer.key_set()

    with answering(answer) as issuer:
        async with running(issuer.file(tmp_path / "jwt.json")) as tokens:
            await fails(tokens, kind)
            assert await reason(tokens, issuer.token()) == "unavailable"


@pytest.mark.parametrize("of_key", ["EdDSA", "Ed25519", None])
@pytest.mark.parametrize("of_token", ["EdDSA", "Ed25519"])
async def test_both_names_of_the_algorithm_of_ed25519_are_one(
    of_key: str | None, of_token: str, tmp_path: Path
) -> None:
    with running_issuer(tmp_path / "issuer") as issuer:
        key = OKPKey.generate_key("Ed25519", {"kid": "one", **({} if of_key is None else {"alg": of_key})})
        issuer.publish(key)
        async with running(issuer.file(tmp_path / "jwt.json")) as tokens:
            # The library signs with no other name than that of the key.
            signing = OKPKey.import_key({**key.as_dict(private=True), "alg": of_token})
            token = issuer.token(key=signing)
            await accepts(tokens, token)
            header, claims, signature = token.split(".")
            forged = f"{header}.{claims}.{signature[:-4]}AAAA"
            assert await reason(tokens, forged) == "signature"


@pytest.mark.parametrize("algorithm", ["Ed25519", "EdDSA", "ES256", "PS256", "Ed448"])
async def test_an_algorithm_that_does_not_fit_the_key_is_refused(algorithm: str, tmp_path: Path) -> None:
    with running_issuer(tmp_path / "issuer") as issuer:
        async with running(issuer.file(tmp_path / "jwt.json")) as tokens:
            await accepts(tokens, issuer.token())
            header, claims, signature = issuer.token().split(".")
            changed = _encoded({"alg": algorithm, "kid": "one"})
            assert await reason(tokens, f"{changed}.{claims}.{signature}") in {"signature", "algorithm"}
            assert header != changed


async def test_the_keys_of_two_issuers_are_apart(tmp_path: Path) -> None:
    with running_issuer(tmp_path / "one") as one, running_issuer(tmp_path / "two") as two:
        two.publish(ec_key("one"))
        file = tmp_path / "jwt.json"
        issuers = [{"issuer": each.url, "audiences": [AUDIENCE]} for each in (one, two)]
        file.write_text(json.dumps({"issuers": issuers}), encoding="utf-8")
        async with running(file) as tokens:

            async def both() -> bool:
                return [await reason(tokens, each.token()) for each in (one, two)] == [None, None]

            await eventually_async(both, "the keys of both are fetched")
            assert await reason(tokens, one.token(key=two.keys[0], iss=one.url)) == "signature"


def _encoded(part: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def test_health_shows_the_issuer_whose_keys_cannot_be_fetched(start_service: StartService, tmp_path: Path) -> None:
    with running_issuer(tmp_path / "issuer") as issuer:
        issuer.stop()
        service = start_service(MODEL_PROVIDER="echo", JWT_FILE=str(issuer.file(tmp_path / "jwt.json")))

        def state() -> dict[str, Any]:
            found: dict[str, Any] = service.get("/health").json()["components"]["issuers"]
            return found

        eventually(lambda: state()["status"] == "down", "the issuer is away")
        assert state()["kind"] == "connection_refused"
        assert state()["detail"].startswith(f"The keys of {issuer.url} could not be fetched (connection_refused)")
        assert "answered 503" in state()["detail"]
        assert service.get("/health/ready").status_code == 200
        issuer.start()
        eventually(lambda: state()["status"] == "up", "its keys were fetched", seconds=90)
        issuer.stop()

        def is_down_with_keys() -> bool:
            # An unknown key makes the service fetch again.
            headers = {"Authorization": f"Bearer {issuer.token(key=rsa_key('new'))}"}
            assert httpx.get(f"{service.url}/usage", headers=headers, timeout=60).status_code == 401
            return state()["status"] == "down" and "stay in use" in state()["detail"]

        eventually(is_down_with_keys, "the issuer is away again", seconds=90)


def test_an_issuer_that_is_no_longer_in_the_file_has_no_metric(start_service: StartService, tmp_path: Path) -> None:
    with running_issuer(tmp_path / "one") as one, running_issuer(tmp_path / "two") as two:
        file = one.file(tmp_path / "jwt.json")
        service = start_service(MODEL_PROVIDER="echo", JWT_FILE=str(file))

        def answers(issuer: Issuer) -> bool:
            headers = {"Authorization": f"Bearer {issuer.token()}"}
            return httpx.get(f"{service.url}/usage", headers=headers, timeout=60).status_code == 200

        def published(issuer: Issuer) -> bool:
            return f'agent_jwt_issuer_up{{issuer="{issuer.url}"}}' in service.get("/metrics").text

        eventually(lambda: answers(one), "the keys are fetched")
        assert published(one)
        two.file(file)
        eventually(lambda: answers(two), "the file is applied")
        assert published(two)
        assert not published(one)
