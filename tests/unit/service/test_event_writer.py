"""What a new attempt at a task sends to clients that have the events of an earlier one; and how much is kept."""

import json
from typing import Any

import pytest

from agent_service.agent.tools import ToolResult, ToolUse
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.tasks import event_writer
from agent_service.tasks.event_record import Sent, text_event, tool_event
from agent_service.tasks.event_writer import EventWriter
from agent_service.tasks.record import Claim

CALL = ToolUse("one", "add", {"a": 1})
RESULT = ToolResult("one", ({"type": "text", "text": "2"},))


async def away() -> None:
    raise StateUnavailableError


def writer(*earlier: str, attempt: int = 2) -> EventWriter:
    """Return the writer of an attempt after these events."""
    claim = Claim("id", attempt, 60, "hello", "", probe=False, events=len(earlier))
    return EventWriter(claim, Sent.of(each.encode() for each in earlier), lambda _: None, away, lost=False)


async def sent(writing: EventWriter) -> list[dict[str, Any]]:
    return [json.loads(each) for each in (await writing.last()).events if '"resumed"' not in each]


async def test_an_equal_beginning_is_not_repeated() -> None:
    writing = writer(text_event("The tea "), text_event("is hot"))
    for piece in ("The", " tea is", " hot, and", " sweet"):
        writing.text(piece)

    assert await sent(writing) == [{"type": "text", "content": ", and sweet"}]


async def test_an_equal_text_is_not_repeated_at_all() -> None:
    writing = writer(text_event("The tea"))
    writing.text("The tea")

    assert await sent(writing) == []


@pytest.mark.parametrize("pieces", [("The", " ink"), ("The tea was",), ("The",), ()], ids=str)
async def test_a_different_text_replaces_what_was_sent(pieces: tuple[str, ...]) -> None:
    writing = writer(text_event("The tea is"))
    for piece in pieces:
        writing.text(piece)
    writing.text("")

    assert await sent(writing) == [{"type": "restarted", "content": "".join(pieces)}]


async def test_text_after_a_replaced_one_is_added_to_it() -> None:
    writing = writer(text_event("The tea"))
    for piece in ("The ink", " is", " dry"):
        writing.text(piece)

    assert await sent(writing) == [{"type": "restarted", "content": "The ink"}, {"type": "text", "content": " is dry"}]


async def test_an_attempt_that_replaced_the_text_is_itself_compared_with_the_next() -> None:
    writing = writer(text_event("old"), json.dumps({"type": "restarted", "content": "The ink"}), text_event(" is"))
    writing.text("The ink is dry")

    assert await sent(writing) == [{"type": "text", "content": " dry"}]


async def test_a_tool_call_before_the_end_of_the_earlier_text_replaces_it() -> None:
    writing = writer(text_event("One. Two."))
    writing.text("One.")
    writing.note(CALL)

    assert [each["type"] for each in await sent(writing)] == ["restarted", "tool_use"]


async def test_only_the_tool_events_of_a_kept_step_that_were_not_sent_follow() -> None:
    writing = writer(text_event("Adding."), tool_event(CALL))
    writing.go_on("Adding.", [{"id": "one", "name": "add", "input": {"a": 1}, "is_error": False, "content": "2"}])
    writing.note(RESULT)

    assert await sent(writing) == [{"type": "tool_result", "id": "one", "is_error": False, "content": "2"}]


async def test_text_of_a_kept_step_that_was_not_sent_follows() -> None:
    writing = writer(text_event("Add"))
    writing.go_on("Adding.", [])
    writing.text("\n\nDone.")

    assert await sent(writing) == [{"type": "text", "content": "ing.\n\nDone."}]


async def test_a_character_cut_in_two_is_sent_as_one() -> None:
    writing = writer(attempt=1)
    for half in "\ud83d", "\ude00", "\ud83d":
        writing.text(half)

    assert await sent(writing) == [{"type": "text", "content": "😀\N{REPLACEMENT CHARACTER}"}]


async def test_damaged_events_of_an_earlier_attempt_are_skipped() -> None:
    writing = writer("{", "[]", text_event("The"), '{"type":"tool_use"}')
    writing.text("The tea")

    assert await sent(writing) == [{"type": "text", "content": " tea"}]


def test_events_that_cannot_be_sent_are_bounded_and_replaced_by_the_whole_text() -> None:
    writing = writer(attempt=1)
    for _ in range(1000):
        writing.text("x" * 4096)
    writing.note(CALL)
    writing.text("end")
    last = writing.batch()

    assert last is not None
    assert last.whole
    (event,) = map(json.loads, last.events)
    assert event == {"type": "whole", "content": "x" * 4_096_000 + "end", "calls": ["one"], "results": []}


def test_what_redis_has_not_confirmed_is_sent_again_unchanged() -> None:
    writing = writer(attempt=1)
    writing.text("one")
    first = writing.batch()
    writing.text("two")
    second = writing.batch()
    writing.replied(1)
    third = writing.batch()

    assert first == second
    assert third is not None
    assert (third.before, third.events) == (1, (text_event("two"),))


def test_the_events_that_redis_keeps_are_bounded() -> None:
    writing = writer(attempt=1)
    kept = 0
    for number in range(1, 3000):
        writing.text("x" * 4096)
        batch = writing.batch()
        assert batch is not None
        kept = sum(map(len, batch.events)) + (0 if batch.whole else kept)
        writing.replied(number)

        assert kept <= max(event_writer._KEPT_BYTES, 2 * number * 4096) + 2 * 4096


def test_lost_events_are_replaced_by_the_whole_text() -> None:
    writing = writer(attempt=1)
    writing.text("one ")
    writing.batch()
    writing.replied(1)
    writing.text("two")
    writing.batch()
    writing.replied(-1)
    batch = writing.batch()

    assert batch is not None
    assert batch.whole
    assert json.loads(batch.events[0])["content"] == "one two"


def test_nothing_is_sent_for_a_task_of_another_attempt() -> None:
    writing = writer(attempt=1)
    writing.text("one")
    writing.batch()
    writing.replied(-2)
    writing.text("two")

    assert writing.batch() is None
