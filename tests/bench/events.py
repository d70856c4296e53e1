"""The processor time of a stream whose answer survives its connection, beside that of `/chat/stream`.

Run it with `python -m bench.events`: one process of the API, its Redis, and the provider `echo`, whose answer of 50
words takes half a second. The time is that of the API's process alone.
"""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

from bench.processes import cpu_seconds
from service.followed import Followed, ask, client
from support.agent import running_service
from support.redis_server import running_redis

_MESSAGE = " ".join(f"word{number}" for number in range(48))
_ROUNDS = 6


async def _measure(pid: int, streams: int, one: Callable[[], Awaitable[None]]) -> float:
    """Return the milliseconds of processor time per stream, of as many streams at once."""
    before = cpu_seconds(pid)
    await asyncio.gather(*(one() for _ in range(streams)))
    return (cpu_seconds(pid) - before) / streams * 1000


async def _run(pid: int, url: str, streams: int) -> None:
    async with client() as session:

        async def plain() -> None:
            async with session.post(f"{url}/chat/stream", json={"message": _MESSAGE}) as answer:
                assert b'"done"' in await answer.read()

        async def resumable() -> None:
            accepted = await ask(session, url, _MESSAGE)
            followed = Followed(accepted["events_url"])
            await followed.follow(session, url)
            assert followed.text.endswith("word47")

        for one in (plain, resumable):
            await _measure(pid, streams, one)
        costs = [[await _measure(pid, streams, one) for one in (plain, resumable)] for _ in range(_ROUNDS)]
        for name, of_rounds in zip(("/chat/stream", "resumable"), zip(*costs, strict=True), strict=True):
            sys.stdout.write(f"{streams} streams at once, {name}: {sum(of_rounds) / _ROUNDS:.2f} ms each\n")


def main(streams: int) -> None:
    """Measure so many streams at once."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(running_redis(folder))
        settings = {
            "MODEL_PROVIDER": "echo",
            "REDIS_URL": redis.url,
            "RATE_LIMIT_REQUESTS": "0",
            "MAX_IN_FLIGHT": "4000",
            "MAX_IN_FLIGHT_PER_CLIENT": "4000",
            "LOG_LEVEL": "WARNING",
        }
        service = stack.enter_context(running_service(folder, **settings))
        asyncio.run(_run(service.process.pid, service.url, streams))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
