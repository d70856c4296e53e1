"""Tokens that are renewed before they expire."""

import asyncio
from collections.abc import Hashable

import pytest

from agent_service.agent.claude.credentials import Credentials, Token
from agent_service.agent.claude.renewal import Renewed
from agent_service.agent.errors import CredentialsRefusedError, ModelError, UnreachableError


class Issuer:
    """An issuer of tokens that live for an hour, with the time and the key of a test."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.key = "key-1"
        self.error: ModelError | None = None
        self.issued = 0
        self.asked = 0
        self.tokens = Renewed(lambda: self.key, self.exchange, clock=lambda: self.now)

    async def exchange(self, origin: Hashable) -> tuple[Token, float]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.issued += 1
        return Token(f"token-{self.issued}", origin), 3600.0

    async def value(self) -> str:
        return (await self.tokens.current()).value

    async def settled(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


async def test_calls_share_one_exchange() -> None:
    issuer = Issuer()

    assert await asyncio.gather(*(issuer.value() for _ in range(10))) == ["token-1"] * 10
    assert issuer.issued == 1


async def test_a_token_is_renewed_early_while_calls_go_on_with_it() -> None:
    issuer = Issuer()
    await issuer.value()
    issuer.now += 2999
    assert await issuer.value() == "token-1"
    await issuer.settled()
    assert issuer.issued == 1

    issuer.now += 2
    assert await issuer.value() == "token-1"
    await issuer.settled()
    assert await issuer.value() == "token-2"


async def test_an_issuer_that_is_down_is_asked_again_and_the_token_is_used_to_its_end() -> None:
    issuer = Issuer()
    await issuer.value()
    issuer.now += 3100
    issuer.error = UnreachableError("The issuer is down.")
    for _ in range(3):
        assert await issuer.value() == "token-1"
        await issuer.settled()
        issuer.now += 11
    issuer.now += 460
    with pytest.raises(UnreachableError):
        await issuer.value()

    issuer.error = None
    issuer.now += 10
    assert await issuer.value() == "token-2"


async def test_another_key_is_exchanged_at_once() -> None:
    issuer = Issuer()
    await issuer.value()
    issuer.key = "key-2"

    assert await issuer.value() == "token-2"


async def test_a_cancelled_call_does_not_end_the_exchange_of_the_others() -> None:
    issuer = Issuer()
    first, second = asyncio.create_task(issuer.value()), asyncio.create_task(issuer.value())
    await asyncio.sleep(0)
    first.cancel()

    assert await second == "token-1"


async def test_what_the_issuer_refuses_is_refused_until_it_changes() -> None:
    issuer = Issuer()
    reported: list[bool] = []
    credentials = Credentials(issuer.tokens, reported.append)
    issuer.error = CredentialsRefusedError("The issuer refused.")
    with pytest.raises(CredentialsRefusedError):
        await credentials.current()
    assert credentials.refused
    assert reported[-1]

    issuer.error, issuer.key = None, "key-2"
    assert not credentials.refused
    assert (await credentials.current()).value == "token-1"


async def test_calls_do_not_press_an_issuer_that_is_down() -> None:
    issuer = Issuer()
    issuer.error = UnreachableError("The issuer is down.")
    for _ in range(20):
        with pytest.raises(UnreachableError):
            await issuer.value()
    assert issuer.asked == 1

    issuer.error = None
    issuer.now += 1
    assert await issuer.value() == "token-1"


async def test_the_pauses_between_attempts_grow_to_ten_seconds() -> None:
    issuer = Issuer()
    issuer.error = UnreachableError("The issuer is down.")
    for second in range(100):
        issuer.now = 1000.0 + second
        with pytest.raises(UnreachableError):
            await issuer.value()

    assert 10 <= issuer.asked <= 30


async def test_a_token_that_is_not_accepted_is_replaced_in_the_background() -> None:
    issuer = Issuer()
    token = await issuer.tokens.current()
    issuer.now += 11
    issuer.tokens.discard(token)

    assert await issuer.value() == "token-1"
    await issuer.settled()
    assert await issuer.value() == "token-2"


async def test_tokens_that_are_not_accepted_are_not_replaced_at_each_call() -> None:
    issuer = Issuer()
    for _ in range(20):
        issuer.tokens.discard(await issuer.tokens.current())
        await issuer.settled()

    assert issuer.issued == 1
