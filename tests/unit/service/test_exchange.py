"""The bounds of one call of a tool: they end what is in progress, whatever ends first."""

import asyncio

import pytest

from agent_service.tooling.exchange import Exchange


@pytest.mark.parametrize("seconds", [-1, 600])
async def test_what_is_in_progress_ends_when_the_call_has_ended_or_its_time_is_over(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    exchange = Exchange(loop.time() + seconds, 0)

    async def read() -> None:
        async with exchange.bounded():
            await loop.create_future()

    reading = asyncio.create_task(read())
    # After two turns of the loop, a time that is over has expired, and the reader does not know it yet.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    exchange.abort()

    with pytest.raises(TimeoutError):
        await reading
