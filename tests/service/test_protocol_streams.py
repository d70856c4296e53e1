"""Streams of every protocol that is resumed by several clients, or loses Redis, and a thousand streams at once."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from a2a.utils.errors import A2AError

from service.followed import Followed, ask, client
from service.protocol_agents import KEYS, echoed, running_agent
from stand_in import StandIn, asking
from support.agent import Service, running_service
from support.eventually import eventually
from support.protocols import PROTOCOLS, Spoken
from support.protocols.client import Answer, Client, RefusedError
from support.protocols.resumable import NOTHING, RESUMABLE, Resumable, Seen, answer_to
from support.raw_client import forget_peak, peak_mebibytes
from support.redis_server import RedisServer

pytestmark = pytest.mark.timing

KEY = KEYS["native"]
AWAY = "The state store of this agent cannot be reached; try again in a moment."

STREAMS = 1000
WORDS = " ".join(f"word{number}" for number in range(40))
# What a process and its Redis may need more for a thousand streams. Measured: 67 and 5.
MOST_MEBIBYTES = 130
MOST_REDIS_MEBIBYTES = 20


@pytest.fixture(scope="module")
def agent_process(
    stand_in_process: StandIn, own_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    settings = {"WORKER_CONCURRENCY": "100", "STREAM_HEARTBEAT_SECONDS": "0.2"}
    with running_agent(tmp_path_factory.mktemp("agent"), stand_in_process, own_redis, **settings) as running:
        yield running
        assert "Traceback" not in running.log()


@pytest.fixture
def agent(agent_process: Service, stand_in: StandIn) -> Service:
    """Return an agent with a Redis of its own, shared by the tests of this file."""
    return agent_process


async def to_the_end(client: Resumable, name: str, seen: Seen = NOTHING) -> Seen:
    """Follow an answer to its end. While Redis is away, come back as often as that takes."""
    while not seen.ended:
        try:
            async with aclosing(client.follow(name, seen)) as events:
                async for each in events:
                    seen = each
        except (httpx.HTTPStatusError, A2AError) as error:
            status, text = answer_to(error)
            assert status in {0, 503}
            assert AWAY in text
            await asyncio.sleep(0.1)
    return seen


@pytest.mark.parametrize("form", RESUMABLE)
async def test_two_clients_that_resume_a_stream_at_once_both_get_the_whole_text(
    agent: Service, form: str, stand_in: StandIn
) -> None:
    message = asking("hello", slow=0.06, hold="both", after=8)
    so_far = [NOTHING]
    async with RESUMABLE[form](agent.url, KEY) as client, RESUMABLE[form](agent.url, KEY) as other:
        name = await client.begin(message)
        async with aclosing(client.follow(name)) as events:
            async for seen in events:
                so_far.append(seen)
                if len(seen.text.split()) == 8:
                    break
        await asyncio.to_thread(
            eventually, lambda: agent.metric("agent_requests_in_flight ") == 0, "the first client has left"
        )
        both = [
            asyncio.create_task(to_the_end(client, name, so_far[1])),
            asyncio.create_task(to_the_end(other, name, so_far[-1])),
        ]
        await asyncio.to_thread(eventually, lambda: agent.metric("agent_requests_in_flight ") == 2, "both are there")
        stand_in.release("both")
        found = await asyncio.gather(*both)
    assert [seen.text for seen in found] == [echoed(message)] * 2
    assert all(seen.ended for seen in found)
    assert len(stand_in.requests()) == 1


# Redis is away in the middle of a stream.

OUTAGES: dict[str, tuple[Callable[[RedisServer], None], Callable[[RedisServer], None]]] = {
    "killed": (RedisServer.kill, RedisServer.start),
    "frozen": (RedisServer.freeze, RedisServer.thaw),
}


@dataclass
class Course:
    """What a client saw: the text of a stream, and what a question got during the outage and after it."""

    message: str
    received: list[str] = field(default_factory=list)
    ended: bool = False
    ended_during: bool = False
    during: Answer | RefusedError | None = None
    after: Answer | None = None


@dataclass
class Outage:
    """The courses of the clients by protocol, and those of the clients that resume their stream."""

    spoken: dict[str, Course] = field(default_factory=dict)
    resumed: dict[str, tuple[str, Seen]] = field(default_factory=dict)


async def read(course: Course, pieces: AsyncGenerator[str, None]) -> None:
    async for piece in pieces:
        course.received.append(piece)
    course.ended = True


async def asked(client: Client, message: str) -> Answer | RefusedError:
    try:
        return await client.ask(message)
    except RefusedError as error:
        return error


@pytest.fixture(scope="module", params=OUTAGES)
def outage(
    request: pytest.FixtureRequest, agent_process: Service, stand_in_process: StandIn, own_redis: RedisServer
) -> Outage:
    """Return what clients of all protocols saw while Redis was away."""
    begins, ends = OUTAGES[request.param]
    stand_in_process.reset()
    found = Outage()

    async def run() -> None:
        async with AsyncExitStack() as stack:
            clients, reading, resuming = {}, [], {}
            for protocol in PROTOCOLS:
                key = KEYS[protocol.name]
                client = await stack.enter_async_context(protocol.connect(agent_process.url, key))
                course = Course(asking(f"{request.param} {protocol.name}", hold=request.param, after=3))
                pieces = await stack.enter_async_context(aclosing(client.stream(course.message)))
                course.received.append(await anext(pieces))
                clients[protocol.name], found.spoken[protocol.name] = client, course
                reading.append(asyncio.create_task(read(course, pieces)))
            for form, connect in RESUMABLE.items():
                back = await stack.enter_async_context(connect(agent_process.url, KEY))
                message = asking(f"{request.param} {form} comes back", hold=request.param, after=3)
                name = await back.begin(message)
                async with aclosing(back.follow(name)) as events:
                    async for seen in events:
                        if seen.text:
                            break
                resuming[form] = back, name, seen, message
            begins(own_redis)
            try:
                answers = [asked(clients[name], "during") for name in found.spoken]
                for course, answer in zip(found.spoken.values(), await asyncio.gather(*answers), strict=True):
                    course.during = answer
                returning = [
                    asyncio.create_task(to_the_end(back, name, seen)) for back, name, seen, _ in resuming.values()
                ]
                stand_in_process.release(request.param)
                lasting = [not protocol.outlives_connection for protocol in PROTOCOLS]
                await asyncio.gather(*(task for task, lasts in zip(reading, lasting, strict=True) if lasts))
                for course in found.spoken.values():
                    course.ended_during = course.ended
            finally:
                ends(own_redis)
            await asyncio.gather(*reading)
            for form, seen in zip(resuming, await asyncio.gather(*returning), strict=True):
                found.resumed[form] = resuming[form][3], seen
            for name, course in found.spoken.items():
                course.after = await clients[name].ask("after")

    asyncio.run(run())
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
def test_while_redis_is_away_a_stream_ends_whole_or_goes_on_afterwards(outage: Outage, protocol: Spoken) -> None:
    course = outage.spoken[protocol.name]
    assert "".join(course.received) == echoed(course.message)
    assert course.ended_during is not protocol.outlives_connection
    if protocol.outlives_connection:
        assert isinstance(course.during, RefusedError)
        assert (course.during.sentence, course.during.status) == (AWAY, protocol.unavailable)
    else:
        assert isinstance(course.during, Answer)
        assert course.during.text == echoed("during")
    assert course.after is not None
    assert course.after.text == echoed("after")


@pytest.mark.parametrize("form", RESUMABLE)
def test_a_stream_that_is_resumed_while_redis_is_away_loses_no_text(outage: Outage, form: str) -> None:
    message, seen = outage.resumed[form]
    assert seen.text == echoed(message)


# A thousand streams.


class Leaver(Followed):
    """A client that loses its connection once, after the first text."""

    has_left = False

    def take(self, event_id: str, event: dict[str, Any]) -> None:
        super().take(event_id, event)
        if self.text and not self.has_left:
            self.has_left = True
            raise aiohttp.ClientConnectionError


async def test_a_thousand_streams_at_once_are_resumed_whole_in_bounded_memory(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    settings = {
        "MODEL_PROVIDER": "echo",
        "REDIS_URL": own_redis.url,
        "STATE_PREFIX": "thousand",
        "RATE_LIMIT_REQUESTS": "0",
        "MAX_IN_FLIGHT": "4000",
        "MAX_IN_FLIGHT_PER_CLIENT": "4000",
        "API_RUNS_TASKS": "true",
        "WORKER_CONCURRENCY": "1000",
        "LOG_LEVEL": "WARNING",
    }
    with running_service(tmp_path, **settings) as service:
        memory, stored = forget_peak(service), used_mebibytes(own_redis)

        async def one(session: aiohttp.ClientSession, number: int) -> tuple[str, Leaver]:
            message = f"{number} {WORDS}"
            followed = Leaver((await ask(session, service.url, message))["events_url"])
            await followed.follow(session, service.url)
            return message, followed

        async with client() as session:
            found = await asyncio.gather(*(one(session, number) for number in range(STREAMS)))
        assert peak_mebibytes(service) - memory < MOST_MEBIBYTES
        assert used_mebibytes(own_redis) - stored < MOST_REDIS_MEBIBYTES
        assert service.metric("agent_requests_in_flight ") == 0
        assert "Traceback" not in service.log()
    for message, followed in found:
        assert followed.has_left
        assert followed.text == f"You said: {message}"
        assert followed.types[-1] == "done"
    assert int(own_redis.command("DBSIZE")[1:]) > STREAMS
    # Lists of tasks stay, but nothing of a task, which has its id in its name.
    assert TASK_ID.search(own_redis.command("EVAL", KEPT_FOR_EVER, "0", "{thousand}:*")) is None


TASK_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-")
KEPT_FOR_EVER = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  if redis.call('PTTL', key) < 0 then table.insert(found, key) end
end
return table.concat(found, ' ')
"""
"""Returns the keys without a time to live."""


def used_mebibytes(redis: RedisServer) -> float:
    found = re.search(rb"^used_memory:(\d+)", redis.command("INFO", "memory"), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 2**20
