"""The owner of the Redis connections: behaviour that no request can show."""

import asyncio

import pytest

from agent_service.state.redis import Redis
from agent_service.state.redis_errors import StateUnavailableError
from support.redis_server import RedisServer


async def test_a_command_that_cannot_be_sent_leaves_no_caller_waiting(redis_server: RedisServer) -> None:
    redis = Redis(redis_server.url, prefix="test")
    half_a_pair = "\ud800"  # a lone surrogate, which UTF-8 cannot encode
    async with asyncio.timeout(5):
        replies = await asyncio.gather(
            redis.call("SET", "a", half_a_pair), redis.call("GET", "a"), return_exceptions=True
        )
        assert isinstance(replies[1], StateUnavailableError | None)
        assert isinstance(replies[0], StateUnavailableError)
        assert await redis.call("PING")
    await redis.close()


async def test_a_cancelled_caller_leaves_the_connection_usable(redis_server: RedisServer) -> None:
    redis = Redis(redis_server.url, prefix="test")
    for number in range(50):
        waiting = asyncio.create_task(redis.call("ECHO", f"unread {number}"))
        await asyncio.sleep(0)
        waiting.cancel()
        assert await redis.call("ECHO", str(number)) == str(number).encode()
    await redis.close()


async def test_calls_after_close_fail_at_once(redis_server: RedisServer) -> None:
    redis = Redis(redis_server.url, prefix="test")
    await redis.close()
    with pytest.raises(StateUnavailableError):
        await redis.call("PING")
