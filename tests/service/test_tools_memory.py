"""Memory of many results at once: it has one bound for all calls, however many there are and whatever servers send."""

import asyncio
import tracemalloc
from pathlib import Path

import pytest

from agent_service.tooling.room import MOST_BYTES, Room
from support.eventually import eventually_async
from support.mcp_servers import StartServer, hostile_server
from support.toolbox import entry, running_tools, text

MEBIBYTE = 2**20
CALLS = 100
# The default, and what such an answer may take on the wire.
RESULT_BYTES = 262_144
# No call of these tests may end because the machine is slow.
LONG = 600


async def test_a_hundred_results_of_the_largest_size_take_little_more_than_what_is_kept_of_them(
    start_mcp: StartServer, tmp_path: Path
) -> None:
    async with running_tools(tmp_path, entry(start_mcp(), timeoutSeconds=LONG)) as tools:
        await tools.until_listed("text")
        tracemalloc.start()
        try:
            results = await asyncio.gather(
                *(tools.call("text", seconds=LONG, characters=4 * RESULT_BYTES) for _ in range(CALLS))
            )
            used = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert {result.outcome for result in results} == {"ok"}
    assert all(result.content[0]["text"] == "x" * RESULT_BYTES for result in results)
    assert used < CALLS * RESULT_BYTES + MOST_BYTES


@pytest.mark.parametrize("name", ["filling_event", "filling_json"])
async def test_answers_that_are_too_large_together_are_discarded_and_later_ones_are_not(
    name: str, start_mcp: StartServer, tmp_path: Path
) -> None:
    listed = [{"name": each, "inputSchema": {"type": "object"}} for each in (name, "talkative")]
    server = start_mcp(hostile_server, tools=listed)
    async with running_tools(tmp_path, entry(server, maxResultBytes=16 * MEBIBYTE, timeoutSeconds=LONG)) as tools:
        await tools.until_listed(name)
        tracemalloc.start()
        try:
            calls = [asyncio.create_task(tools.call(name, seconds=LONG)) for _ in range(CALLS)]

            async def discarded() -> bool:
                # Each answer has a MiB, and no end.
                return sum(call.done() for call in calls) >= CALLS - MOST_BYTES // MEBIBYTE

            await eventually_async(discarded, "the answers without room are discarded")
            used = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        results = [call.result() for call in calls if call.done()]
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        after = await tools.call("talkative")

    assert used < 2 * MOST_BYTES
    assert len(results) < CALLS
    assert {result.outcome for result in results} == {"too_large"}, {text(result) for result in results}
    assert "too large together" in text(results[0])
    assert "The call may have run" in text(results[0])
    assert text(after) == "done"


def test_a_call_that_has_ended_takes_no_room() -> None:
    room = Room(10)
    with room.share() as first, room.share() as second:
        assert (first.hold(6), second.hold(6), second.hold(4), first.hold(7)) == (True, False, True, False)
    assert not first.hold(1)
    with room.share() as third:
        assert third.hold(10)
