"""The events of a task as updates of A2A."""

from typing import Any

from a2a.types.a2a_pb2 import TaskArtifactUpdateEvent, TaskState, TaskStatusUpdateEvent
from google.protobuf.json_format import MessageToDict

from agent_service.chat.approval_record import Place, WaitingCall
from agent_service.compat.a2a.updates import Update, Updates


def updates(*events: dict[str, Any]) -> list[Update]:
    translated = Updates("task-1", "context-1")
    return [update for event in events for update in translated.of(event)]


def texts(found: list[Update]) -> list[tuple[str, bool]]:
    return [
        (update.artifact.parts[0].text, update.append)
        for update in found
        if isinstance(update, TaskArtifactUpdateEvent)
    ]


def states(found: list[Update]) -> list[int]:
    return [update.status.state for update in found if isinstance(update, TaskStatusUpdateEvent)]


def test_pieces_of_text_are_appended_to_one_artifact() -> None:
    found = updates({"type": "text", "content": "Grü"}, {"type": "text", "content": "ße"}, {"type": "done"})

    # The last one replaces the others by the whole answer.
    assert texts(found) == [("Grü", False), ("ße", True), ("Grüße", False)]
    assert [update.last_chunk for update in found if isinstance(update, TaskArtifactUpdateEvent)] == [
        False,
        False,
        True,
    ]
    assert states(found) == [TaskState.TASK_STATE_WORKING, TaskState.TASK_STATE_COMPLETED]
    assert {(update.task_id, update.context_id) for update in found} == {("task-1", "context-1")}


def test_a_restarted_answer_replaces_the_text() -> None:
    found = updates(
        {"type": "text", "content": "One"},
        {"type": "resumed", "attempt": 2},
        {"type": "restarted", "content": "Two"},
        {"type": "text", "content": " more"},
        {"type": "done"},
    )

    assert texts(found) == [("One", False), ("Two", False), (" more", True), ("Two more", False)]
    (resumed,) = [update for update in found if update.metadata]
    assert MessageToDict(resumed.metadata) == {"attempt": 2.0}


def test_tool_calls_are_data_of_the_agents_messages() -> None:
    call = {"type": "tool_use", "id": "a", "name": "add", "input": {"a": 1}}
    result = {"type": "tool_result", "id": "a", "is_error": False, "content": "3"}

    found = updates(call, result)

    messages = [update.status.message for update in found if isinstance(update, TaskStatusUpdateEvent)]
    assert [MessageToDict(message.parts[0].data) for message in messages] == [call, result]
    assert len({message.message_id for message in messages}) == 2


def test_a_failed_task_has_the_sentence_and_the_code() -> None:
    (failed,) = updates({"type": "error", "code": "timed_out", "message": "It took too long."})
    (cancelled,) = updates({"type": "error", "code": "cancelled", "message": "The task was cancelled."})

    assert isinstance(failed, TaskStatusUpdateEvent)
    assert failed.status.state == TaskState.TASK_STATE_FAILED
    assert failed.status.message.parts[0].text == "It took too long."
    assert MessageToDict(failed.status.message.parts[1].data)["code"] == "timed_out"
    assert states([cancelled]) == [TaskState.TASK_STATE_CANCELED]


def test_a_task_that_waits_names_its_calls_for_people_and_programs() -> None:
    call = WaitingCall("turn.1", "owner", Place("task", "task-1"), "slow", "shop", {"label": "tée"}, 1.0, 2.0)

    update = Updates("task-1", "context-1").waits([call])

    assert update.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
    text, data = update.status.message.parts
    assert 'slow {"label": "tée"}, id turn.1' in text.text
    assert MessageToDict(data.data) == {
        "type": "approval",
        "id": "turn.1",
        "tool": "slow",
        "server": "shop",
        "input": {"label": "tée"},
        "expires_at": "1970-01-01T00:00:02+00:00",
    }


def test_events_of_other_types_are_skipped() -> None:
    assert updates({"type": "input_required"}, {"type": "of a later version"}) == []
