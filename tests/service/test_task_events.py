"""Positions, readers and limits of the events of tasks: a real Redis, with what writes in workers and reads in APIs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from agent_service.lifecycle import Lifecycle
from agent_service.state.redis import Redis
from agent_service.tasks.event_log import EventLog
from agent_service.tasks.event_record import StoredEvent
from agent_service.tasks.event_writer import EventWriter
from agent_service.tasks.events import Events
from agent_service.tasks.following import Following, InvalidPositionError, UnknownTaskError
from agent_service.tasks.queue import Tasks
from agent_service.tasks.record import Claim
from support.redis_server import RedisServer

OWNER = "owner"


@dataclass
class Bed:
    """The parts of a worker, and those of two replicas that read."""

    server: RedisServer
    redis: Redis
    tasks: Tasks
    log: EventLog
    lifecycle: Lifecycle
    events: Events
    other: Events

    async def begin(self) -> tuple[Claim, EventWriter]:
        claim = (await self.tasks.accept(OWNER, "hello", claim=True)).claim
        assert claim is not None
        return claim, await self.log.open(claim)

    async def written(self, *texts: str) -> tuple[Claim, EventWriter]:
        """Return a task with an event for each text."""
        claim, writer = await self.begin()
        for text in texts:
            writer.text(text)
            await writer.flush()
        return claim, writer

    async def end(self, claim: Claim, writer: EventWriter, response: str) -> None:
        result = {"response": response, "tokens_used": 3, "output_tokens": 2}
        await self.tasks.complete(claim, result, await writer.last())
        self.log.end(writer)

    def forget(self, claim: Claim) -> None:
        """Expire the events of a task."""
        self.server.command("DEL", f"{{test}}:task:events:{claim.id}")


@pytest.fixture
async def bed(redis_server: RedisServer) -> AsyncIterator[Bed]:
    redis = Redis(redis_server.url, prefix="test")
    tasks = Tasks(redis, max_attempts=3, deadline_seconds=600, result_ttl_seconds=3600, queue_limit=100)
    lifecycle = Lifecycle()
    events, other = (Events(redis, each, lambda _: None) for each in (lifecycle, Lifecycle()))
    log = EventLog(redis, events)
    yield Bed(redis_server, redis, tasks, log, lifecycle, events, other)
    for each in (log, events, other, redis):
        await each.close()


async def rest(following: Following) -> list[StoredEvent]:
    async with asyncio.timeout(30), aclosing(following):
        return [event async for event in following]


def texts(events: list[StoredEvent]) -> list[str]:
    return [event.data["content"] for event in events if "content" in event.data]


def kinds(events: list[StoredEvent]) -> list[str]:
    return [event.data["type"] for event in events]


async def test_the_ids_of_events_go_on_at_each_replica(bed: Bed) -> None:
    claim, writer = await bed.written("one", "two")
    await bed.end(claim, writer, "onetwo")

    first = await rest(bed.events.follow(OWNER, claim.id))
    assert [event.id for event in first] == [f"{claim.id}.{number}" for number in (1, 2, 3)]
    assert first[-1].data == {"type": "done", "input_tokens": 1, "output_tokens": 2}
    for number, event in enumerate(first, start=1):
        assert await rest(bed.other.follow(OWNER, claim.id, event.id)) == first[number:]


async def test_readers_receive_events_as_they_are_written_and_each_has_its_own_position(bed: Bed) -> None:
    claim, writer = await bed.written("one")
    early, late = bed.events.follow(OWNER, claim.id), bed.events.follow(OWNER, claim.id, f"{claim.id}.1")
    other = bed.other.follow(OWNER, claim.id)
    assert texts([await anext(early)]) == texts([await anext(other)]) == ["one"]
    waiting = asyncio.create_task(anext(late))
    writer.text("two")
    await writer.flush()
    assert texts([await waiting]) == ["two"]
    await bed.end(claim, writer, "onetwo")

    assert kinds(await rest(late)) == ["done"]
    assert kinds(await rest(early)) == kinds(await rest(other)) == ["text", "done"]


async def test_a_reader_beside_the_writer_receives_events_without_reading_them_from_redis(bed: Bed) -> None:
    claim, writer = await bed.begin()
    following = bed.events.follow(OWNER, claim.id)
    await following.start()
    writer.text("one")
    await writer.flush()
    bed.forget(claim)

    assert [(event.id, event.data["content"]) for event in [await anext(following)]] == [(f"{claim.id}.1", "one")]


async def test_a_reader_beside_the_writer_that_is_behind_reads_the_rest_from_redis(bed: Bed) -> None:
    claim, writer = await bed.begin()
    following = bed.events.follow(OWNER, claim.id)
    await following.start()
    for text in ("one", "two", "three"):
        writer.text(text)
        await writer.flush()
    await bed.end(claim, writer, "onetwothree")

    assert texts(found := await rest(following)) == ["one", "two", "three"]
    assert [event.id for event in found] == [f"{claim.id}.{number}" for number in range(1, 5)]


async def test_a_reader_may_stop_waiting_for_an_event_and_loses_none(bed: Bed) -> None:
    claim, writer = await bed.written("one")
    following = bed.events.follow(OWNER, claim.id)
    assert texts([await anext(following)]) == ["one"]
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(following), 0.01)
    await bed.end(claim, writer, "one")

    assert kinds(await rest(following)) == ["done"]


@pytest.mark.parametrize("position", ["{id}.2", "{id}.99999", "{id}.-1", "{id}.1e3", "{id}.٣", "{id}", "", "x.1", "7"])
async def test_a_position_of_another_stream_or_in_the_future_is_refused(bed: Bed, position: str) -> None:
    claim, _ = await bed.written("one")

    with pytest.raises(InvalidPositionError):
        await bed.events.follow(OWNER, claim.id, position.format(id=claim.id)).start()


async def test_no_event_follows_the_last_one(bed: Bed) -> None:
    claim, writer = await bed.written("one")
    await bed.end(claim, writer, "one")
    following = bed.events.follow(OWNER, claim.id, f"{claim.id}.2")
    await following.start()

    assert following.is_over
    with pytest.raises(InvalidPositionError):
        await bed.events.follow(OWNER, claim.id, f"{claim.id}.3").start()


@pytest.mark.parametrize("owner", ["another", ""])
async def test_a_task_of_another_client_is_unknown(bed: Bed, owner: str) -> None:
    claim, _ = await bed.written("one")

    with pytest.raises(UnknownTaskError):
        await bed.events.follow(owner, claim.id).start()
    with pytest.raises(UnknownTaskError):
        await bed.events.follow(OWNER, claim.id[:-1]).start()


@pytest.mark.parametrize("position", [None, 0, 1, 2])
async def test_after_its_events_have_expired_a_client_gets_the_whole_text(bed: Bed, position: int | None) -> None:
    claim, writer = await bed.written("one", "two", "three")
    await bed.end(claim, writer, "onetwothree")
    bed.forget(claim)

    found = await rest(bed.events.follow(OWNER, claim.id, None if position is None else f"{claim.id}.{position}"))
    assert kinds(found) == ["restarted", "done"]
    assert texts(found) == ["onetwothree"]
    assert [event.id for event in found] == [f"{claim.id}.3", f"{claim.id}.4"]


async def test_events_that_are_lost_while_the_task_runs_are_replaced_by_the_whole_text(bed: Bed) -> None:
    claim, writer = await bed.written("one ", "two ")
    following = bed.events.follow(OWNER, claim.id)
    assert texts([await anext(following), await anext(following)]) == ["one ", "two "]
    bed.forget(claim)
    writer.text("three")
    await writer.flush()
    await bed.end(claim, writer, "one two three")

    assert kinds(found := await rest(following)) == ["restarted", "done"]
    assert texts(found) == ["one two three"]


async def test_a_slow_reader_holds_a_page_only_and_receives_all(bed: Bed) -> None:
    claim, writer = await bed.begin()
    whole = "".join(f"{number:09d}\n" for number in range(300_000))
    for start in range(0, len(whole), 4096):
        writer.text(whole[start : start + 4096])
        if start % (64 * 4096) == 0:
            await writer.flush()
    await bed.end(claim, writer, whole)
    following, text, longest = bed.events.follow(OWNER, claim.id), "", 0
    async for event in following:
        page = [event, *following.take()]
        longest = max(longest, sum(len(each.text) for each in page))
        for each in page:
            text = {"text": text, "restarted": ""}.get(each.data["type"], text) + each.data.get("content", "")

    assert text == whole
    assert longest < 2 * 1024 * 1024


async def test_what_redis_keeps_of_a_long_answer_is_bounded(bed: Bed) -> None:
    claim, writer = await bed.begin()
    late = bed.events.follow(OWNER, claim.id)
    whole = "".join(f"{number:09d}\n" for number in range(600_000))
    for start in range(0, len(whole), 4096):
        writer.text(whole[start : start + 4096])
        if start % (64 * 4096) == 0:
            await writer.flush()
    await bed.end(claim, writer, whole)

    stored = bed.server.command("MEMORY", "USAGE", f"{{test}}:task:events:{claim.id}", "SAMPLES", "0")
    assert int(stored.strip()[1:]) < 3 * len(whole)
    found = await rest(late)
    assert kinds(found)[0] == "restarted"
    assert "".join(texts(found)) == whole


async def test_events_are_kept_for_some_minutes_after_the_end(bed: Bed) -> None:
    claim, writer = await bed.written("one")
    before = bed.server.command("PTTL", f"{{test}}:task:events:{claim.id}")
    await bed.end(claim, writer, "one")
    after = bed.server.command("PTTL", f"{{test}}:task:events:{claim.id}")

    assert 600_000 < int(before[1:]) <= 1_200_000
    assert 0 < int(after[1:]) <= 600_000


async def test_a_task_that_an_older_release_has_finished_shows_its_result(bed: Bed) -> None:
    claim, writer = await bed.begin()
    bed.log.end(writer)
    key = f"{{test}}:task:record:{claim.id}"
    bed.server.command("HDEL", key, "events")
    bed.server.command("HSET", key, "status", "completed", "result", '{"response": "tea", "tokens_used": 3}')
    found = await rest(bed.events.follow(OWNER, claim.id))

    assert [event.data for event in found] == [
        {"type": "restarted", "content": "tea"},
        {"type": "done", "input_tokens": 3, "output_tokens": 0},
    ]


async def test_the_text_of_a_task_that_an_older_release_went_on_with_is_that_of_its_result(bed: Bed) -> None:
    claim, writer = await bed.written("half of the ")
    following = bed.events.follow(OWNER, claim.id)
    assert texts([await anext(following)]) == ["half of the "]
    bed.log.end(writer)
    key = f"{{test}}:task:record:{claim.id}"
    bed.server.command("HSET", key, "status", "completed", "result", '{"response": "whole tea", "tokens_used": 3}')

    assert texts(found := await rest(following)) == ["whole tea"]
    assert kinds(found) == ["restarted", "done"]


async def test_damaged_events_are_skipped(bed: Bed) -> None:
    claim, writer = await bed.written("one")
    key = f"{{test}}:task:events:{claim.id}"
    bed.server.command("LSET", key, "0", "{")
    writer.text("two")
    await writer.flush()
    await bed.end(claim, writer, "onetwo")

    assert kinds(await rest(bed.events.follow(OWNER, claim.id))) == ["text", "done"]


async def test_a_list_that_is_none_is_replaced(bed: Bed) -> None:
    claim, writer = await bed.written("one ")
    bed.server.command("SET", f"{{test}}:task:events:{claim.id}", "1")
    writer.text("two")
    await writer.flush()
    await bed.end(claim, writer, "one two")

    assert texts(await rest(bed.events.follow(OWNER, claim.id))) == ["one two"]


async def test_a_worker_whose_task_was_taken_sends_nothing(bed: Bed) -> None:
    claim, writer = await bed.written("one")
    assert await bed.tasks.cancel(OWNER, claim.id)
    writer.text("two")
    await writer.flush()
    found = await rest(bed.events.follow(OWNER, claim.id))

    assert kinds(found) == ["text", "error"]
    assert found[-1].data["code"] == "cancelled"


async def test_followers_end_without_a_last_event_when_their_process_drains(bed: Bed) -> None:
    claim, writer = await bed.written("one")
    following, other = bed.events.follow(OWNER, claim.id), bed.other.follow(OWNER, claim.id)
    bed.lifecycle.begin_draining()

    assert kinds(first := await rest(following)) == ["text"]
    await bed.end(claim, writer, "one")
    assert kinds(await rest(bed.other.follow(OWNER, claim.id, first[-1].id))) == ["done"]
    assert kinds(await rest(other)) == ["text", "done"]


async def test_events_arrive_without_the_right_to_subscribe(bed: Bed) -> None:
    bed.server.command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "resetchannels", "+@all")
    redis = Redis(bed.server.url.replace("redis://", "redis://reader:secret@"), prefix="test")
    events = Events(redis, Lifecycle(), lambda _: None)
    claim, writer = await bed.written("one")
    following = events.follow(OWNER, claim.id)
    assert texts([await anext(following)]) == ["one"]
    writer.text("two")
    await writer.flush()

    assert texts([await asyncio.wait_for(anext(following), 30)]) == ["two"]
    await following.aclose()
    await events.close()
    await redis.close()


async def test_a_repeated_append_whose_reply_was_lost_adds_nothing(bed: Bed) -> None:
    claim, writer = await bed.begin()
    writer.text("one")
    batch = writer.batch()
    assert batch is not None
    name = f"{{test}}:task:events:{claim.id}"
    # As if the script had run, and its reply was lost.
    bed.server.command("RPUSH", name, *batch.events)
    bed.server.command("HSET", f"{{test}}:task:record:{claim.id}", "events", "1")
    writer.text("two")
    await writer.flush()
    await bed.end(claim, writer, "onetwo")

    assert texts(await rest(bed.events.follow(OWNER, claim.id))) == ["one", "two"]


async def test_the_events_of_many_tasks_are_sent_together(bed: Bed) -> None:
    started = [await bed.begin() for _ in range(300)]
    following = [bed.events.follow(OWNER, claim.id) for claim, _ in started]
    reading = [asyncio.create_task(rest(each)) for each in following]

    async def calls() -> int:
        stats = bed.server.command("INFO", "commandstats").decode()
        return sum(
            int(part.split("=")[1])
            for line in stats.splitlines()
            if line.startswith("cmdstat_evalsha")
            for part in line.partition(":")[2].split(",")[:1]
        )

    before = await calls()
    for claim, writer in started:
        writer.text(claim.id)
    await asyncio.gather(*(writer.flush() for _, writer in started))
    assert await calls() - before < 100
    for claim, writer in started:
        await bed.end(claim, writer, claim.id)
    for (claim, _), found in zip(started, await asyncio.gather(*reading), strict=True):
        assert texts(found) == [claim.id]
        assert json.loads(found[-1].text)["type"] == "done"


async def test_a_task_of_a_killed_process_is_due(bed: Bed) -> None:
    claim, _ = await bed.begin()
    assert await bed.tasks.due() == 0
    bed.server.command("ZADD", "{test}:task:leases", "1", claim.id)

    assert await bed.tasks.due() == 1
