"""Streams of background chats while their processes are killed, drain, or lose Redis: no text is lost or repeated."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.followed import Followed, ask, client, task
from stand_in import StandIn, asking
from support.agent import KEY, Service, running_service
from support.eventually import eventually_async
from support.redis_server import RedisServer, running_redis

STREAMS = 200
ANSWERED = 'agent_api_requests_total{api="native",outcome="ok"}'


@dataclass(frozen=True)
class Replicas:
    """A Redis, an API and a worker, and what starts another API."""

    redis: RedisServer
    api: Service
    settings: dict[str, str]


@pytest.fixture(scope="module")
def replicas(stand_in_process: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("replicas")
    stand_in_process.reset()
    settings = {
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": stand_in_process.url,
        "RATE_LIMIT_REQUESTS": "0",
        "MAX_IN_FLIGHT_PER_CLIENT": "1000",
        "REQUEST_TIMEOUT_SECONDS": "1",
        "STREAM_TIMEOUT_SECONDS": "1",
        "WORKER_CONCURRENCY": str(STREAMS),
        "API_RUNS_TASKS": "false",
    }
    with running_redis(folder) as redis:
        settings["REDIS_URL"] = redis.url
        with running_service(folder, **settings) as api, running_service(folder, "worker", host="", **settings):
            yield Replicas(redis, api, settings)


def held(name: str, number: int) -> str:
    """Return a message whose answer stops in its middle until `name` is released."""
    return asking(f"{name} {number}: grüße 😀", words=30, hold=name, after=20)


WORDS = "".join(f" word{number}" for number in range(30))
"""The end of each answer, which begins with a quotation of the message."""


async def in_the_middle(streams: list[Followed]) -> None:
    async def arrived() -> bool:
        return all(len(stream.text) > 50 for stream in streams)

    await eventually_async(arrived, "each client has the first half of its answer")


@pytest.mark.parametrize("end", [Service.kill, Service.terminate], ids=["killed", "drained"])
async def test_no_text_of_200_streams_is_lost_when_their_process_ends(
    replicas: Replicas, stand_in: StandIn, tmp_path: Path, end: Callable[[Service], None]
) -> None:
    name = "killed" if end is Service.kill else "drained"
    with running_service(tmp_path, **replicas.settings) as first:
        async with client() as session:
            accepted = [await ask(session, first.url, held(name, number)) for number in range(STREAMS)]
            assert {each["status"] for each in accepted} == {"running"}
            streams = [Followed(each["events_url"]) for each in accepted]
            # Half of the clients are connected to the process that ends.
            urls = [(first.url, replicas.api.url) if number % 2 else (replicas.api.url,) for number in range(STREAMS)]
            following = [
                asyncio.create_task(stream.follow(session, *where)) for stream, where in zip(streams, urls, strict=True)
            ]
            await in_the_middle(streams)
            await asyncio.to_thread(end, first)
            await asyncio.to_thread(first.wait)
            stand_in.release(name)
            await asyncio.gather(*following)
            results = [(await task(session, replicas.api.url, each))["result"] for each in accepted]

    for stream, result in zip(streams, results, strict=True):
        assert stream.text == result["response"]
        assert stream.text.endswith(WORDS)
        assert stream.types[-1] == "done"
        assert "restarted" not in stream.types
        # An attempt that a draining process returned does not count.
        assert {"type": "resumed", "attempt": 2 if name == "killed" else 1} in stream.events


async def test_a_stream_goes_on_after_redis_was_away(replicas: Replicas, stand_in: StandIn) -> None:
    async with client() as session:
        accepted = await ask(session, replicas.api.url, held("away", 0))
        stream = Followed(accepted["events_url"])
        following = asyncio.create_task(stream.follow(session, replicas.api.url))
        await in_the_middle([stream])
        replicas.redis.kill()
        stand_in.release("away")

        async def is_answered() -> bool:
            return await asyncio.to_thread(replicas.api.metric, ANSWERED) == 1

        await eventually_async(is_answered, "the model has answered")
        replicas.redis.start()
        await following
        result = (await task(session, replicas.api.url, accepted))["result"]

    assert stream.text == result["response"]
    assert "restarted" not in stream.types
    assert stream.types[-1] == "done"
