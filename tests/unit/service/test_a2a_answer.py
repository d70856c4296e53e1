"""The text of an A2A answer, from the events of 1.0 and 0.3."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.agent.errors import ModelError, ModelFailedError, ModelRefusedError, OverloadedError
from agent_service.runtime.a2a_answer import MOST_TEXT_BYTES, Answer
from agent_service.runtime.a2a_errors import UNKNOWN_TASK, of_error
from agent_service.runtime.a2a_events import event, task


class New:
    """Events of 1.0."""

    def parts(self, *texts: str) -> list[dict[str, Any]]:
        return [{"text": text} for text in texts]

    def message(self, *texts: str, **more: object) -> dict[str, Any]:
        return {"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": self.parts(*texts), **more}}

    def status(self, state: str, text: str | None = None, **more: object) -> dict[str, Any]:
        return {"statusUpdate": {"taskId": "t", "status": self._status(state, text), **more}}

    def artifact(self, text: str, number: str = "a", **more: object) -> dict[str, Any]:
        artifact = {"artifactId": number, "parts": self.parts(text)}
        return {"artifactUpdate": {"taskId": "t", "artifact": artifact, **more}}

    def task(self, state: str, *artifacts: str, text: str | None = None, history: object = None) -> dict[str, Any]:
        listed = [{"artifactId": str(n), "parts": self.parts(each)} for n, each in enumerate(artifacts)]
        return {"task": {"id": "t", "status": self._status(state, text), "artifacts": listed, "history": history}}

    def _status(self, state: str, text: str | None) -> dict[str, Any]:
        status: dict[str, Any] = {"state": "TASK_STATE_" + state.upper().replace("-", "_")}
        return status if text is None else {**status, "message": self.message(text)["message"]}


class Old(New):
    """Events of 0.3."""

    def parts(self, *texts: str) -> list[dict[str, Any]]:
        return [{"kind": "text", "text": text} for text in texts]

    def message(self, *texts: str, **more: object) -> dict[str, Any]:
        return {"kind": "message", **super().message(*texts, **more)["message"], "role": "agent"}

    def status(self, state: str, text: str | None = None, **more: object) -> dict[str, Any]:
        ends = state not in {"submitted", "working"}
        return {"kind": "status-update", "final": ends, **super().status(state, text, **more)["statusUpdate"]}

    def artifact(self, text: str, number: str = "a", **more: object) -> dict[str, Any]:
        return {"kind": "artifact-update", **super().artifact(text, number, **more)["artifactUpdate"]}

    def task(self, state: str, *artifacts: str, text: str | None = None, history: object = None) -> dict[str, Any]:
        return {"kind": "task", **super().task(state, *artifacts, text=text, history=history)["task"]}

    def _status(self, state: str, text: str | None) -> dict[str, Any]:
        status: dict[str, Any] = {"state": state}
        return status if text is None else {**status, "message": self.message(text)}


@pytest.fixture(params=[New, Old])
def v(request: pytest.FixtureRequest) -> New:
    """Return the events of a version."""
    version: Callable[[], New] = request.param
    return version()


def pieces(*received: dict[str, Any]) -> list[str]:
    answer = Answer()
    return [answer.take(event(each)) for each in received] + [answer.finish()]


def text(*received: dict[str, Any]) -> str:
    return "".join(pieces(*received))


def test_a_message_is_the_answer(v: New) -> None:
    answer = Answer()
    assert answer.take(event(v.message("one", "two"))) == "one\ntwo"
    assert answer.finish() == ""
    assert answer.ended


def test_messages_in_pieces_are_one_answer(v: New) -> None:
    assert text(v.message("ha"), v.message("ha")) == "haha"


def test_chunks_of_an_artifact_arrive_as_they_are(v: New) -> None:
    received = pieces(
        v.task("submitted"),
        v.status("working", "Thinking…"),
        v.artifact("Hel"),
        v.artifact("lo ", append=True),
        v.artifact("you", append=True, lastChunk=True),
        v.status("completed"),
    )
    assert received == ["", "", "Hel", "lo ", "you", "", ""]


@pytest.mark.parametrize("number", ["a", "b"])
@pytest.mark.parametrize("repeated", ["Hello you", "Hello you\n", " Hello  you"])
def test_a_last_artifact_that_repeats_the_streamed_text_is_not_shown_again(v: New, number: str, repeated: str) -> None:
    final = v.artifact(repeated, number, lastChunk=True)
    shown = text(v.artifact("Hello "), v.artifact("you", append=True), final, v.status("completed"))
    assert shown.rstrip("\n") == "Hello you"


def test_a_task_that_repeats_the_streamed_artifacts_is_not_shown_again(v: New) -> None:
    chunks = v.artifact("one", "0"), v.artifact(" more", "0", append=True), v.artifact("two", "1")
    assert text(*chunks, v.task("completed", "one more", "two")) == "one more\n\ntwo"


def test_an_artifact_that_grows_is_shown_once(v: New) -> None:
    assert pieces(v.artifact("Th"), v.artifact("The"), v.artifact("The end"), v.status("completed")) == [
        *("Th", "e", " end", "", "")
    ]


def test_another_artifact_is_set_apart(v: New) -> None:
    assert text(v.artifact("one"), v.artifact("two", "b"), v.status("completed")) == "one\n\ntwo"


def test_the_message_of_a_completed_task_is_the_answer_only_without_an_artifact(v: New) -> None:
    assert text(v.status("working", "Soon."), v.status("completed", "42")) == "42"
    assert text(v.artifact("42"), v.status("completed", "Done.")) == "42"


def test_without_any_other_text_the_last_message_of_the_history_is_the_answer(v: New) -> None:
    said = v.message("42")
    assert text(v.task("completed", history=[said.get("message", said)])) == "42"
    assert text(v.task("completed", history=[{"role": "user", "parts": v.parts("question")}])) == ""


def test_a_question_is_passed_on_after_the_text_before_it(v: New) -> None:
    answer = Answer()
    shown = answer.take(event(v.artifact("A draft."))) + answer.take(event(v.status("input-required", "Which city?")))
    assert (shown, answer.ended, answer.waits, answer.task_id) == ("A draft.\n\nWhich city?", True, True, "t")


def test_a_question_that_was_shown_as_an_artifact_is_not_repeated(v: New) -> None:
    assert text(v.artifact("Which city?"), v.status("input-required", "Which city?")) == "Which city?"


@pytest.mark.parametrize("state", ["failed", "rejected", "auth-required", "canceled"])
def test_a_task_that_fails_is_an_error_that_does_not_quote_the_agent(v: New, state: str) -> None:
    answer = Answer()
    with pytest.raises(ModelError) as caught:
        answer.take(event(v.status(state, "Password of db is x")))
    assert caught.value.upstream == "Password of db is x"
    assert "Password" not in str(caught.value)
    assert answer.ended
    assert isinstance(caught.value, ModelRefusedError if state == "rejected" else ModelFailedError)


def test_what_follows_the_end_is_ignored(v: New) -> None:
    assert text(v.artifact("one"), v.status("completed"), v.artifact("two", "b"), v.status("failed")) == "one"


def test_artifacts_before_the_task_and_unknown_events_are_taken(v: New) -> None:
    received = v.artifact("late", append=True), {"kind": "new"}, {}, {"newUpdate": {}}, v.task("working")
    assert text(*received, v.status("completed")) == "late"


def test_in_0_3_a_status_that_is_not_final_is_followed_by_more() -> None:
    v = Old()
    received = v.status("completed", "Done.", final=False), v.artifact("42")
    assert text(*received) == "42"
    assert text(v.status("completed", "Done.", final=False)) == "Done."


def test_a_stream_that_ends_within_a_task_is_not_complete(v: New) -> None:
    for received in [[v.status("working")], [v.artifact("Hel")], []]:
        answer = Answer()
        for each in received:
            answer.take(event(each))
        assert answer.finish() == ""
        assert not answer.ended
        assert answer.task_id == ("t" if received else None)


@pytest.mark.parametrize(
    "garbage",
    [
        {"kind": 1},
        {"kind": "task", "status": "done", "artifacts": [1, {"parts": [{"text": 1}, None]}], "history": {}},
        {"task": {"id": 7, "status": {"state": 3, "message": []}}},
        {"message": "text"},
        {"message": {"parts": "text"}},
        {"statusUpdate": {"status": {"message": {"parts": [[]]}}}},
        {"artifactUpdate": {"artifact": "text", "append": "yes"}},
        {"kind": "artifact-update"},
        {"kind": "status-update", "status": None, "final": "yes"},
    ],
)
def test_fields_of_another_type_are_taken_as_absent(garbage: dict[str, Any]) -> None:
    answer = Answer()
    assert answer.take(event(garbage)) == ""
    assert answer.take(event(New().artifact("still"))) == "still"


FIELDS = st.sampled_from(
    ["kind", "task", "message", "statusUpdate", "artifactUpdate", "artifact", "artifacts", "status", "state", "parts"]
    + ["text", "metadata", "history", "role", "artifactId", "append", "final", "id", "taskId"]
)
WORDS = st.sampled_from(["task", "message", "artifact-update", "status-update", "working", "TASK_STATE_COMPLETED", "a"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner, max_size=5),
    max_leaves=25,
)


@given(st.lists(st.dictionaries(FIELDS, VALUES), max_size=6))
def test_events_of_any_form_are_read(received: list[dict[str, Any]]) -> None:
    answer = Answer()
    shown = [answer.take(event(each)) for each in received]
    assert all(isinstance(piece, str) for piece in [*shown, answer.finish()])


def test_files_data_and_thoughts_are_not_part_of_the_answer() -> None:
    parts = [
        {"text": "Let me think.", "metadata": {"adk_thought": True}},
        {"data": {"text": "x"}},
        {"url": "http://a/"},
        {"text": "42", "metadata": {"adk_thought": False}},
    ]
    assert text({"artifactUpdate": {"artifact": {"artifactId": "a", "parts": parts}}}) == "42"


def test_a_polled_task_is_read_with_and_without_an_envelope(v: New) -> None:
    working = v.task("working", "on")
    assert task(working) == task(working.get("task", working))


def test_the_text_of_an_answer_is_bounded() -> None:
    answer, chunk = Answer(), "x" * 2**20
    for _ in range(MOST_TEXT_BYTES // 2**20):
        answer.take(event(New().artifact(chunk, append=True)))
    with pytest.raises(ModelFailedError) as caught:
        answer.take(event(New().artifact("x", append=True)))
    assert caught.value.kind == "too_large"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": -32001, "message": "Task not found"}, UNKNOWN_TASK),
        ({"code": -32601, "message": "Method not found"}, "protocol"),
        ({"code": -32602, "message": "Invalid"}, "refused"),
        ({"code": -32603, "message": "Internal", "data": {"key": "secret"}}, "failed"),
        ({"code": 429, "status": "RESOURCE_EXHAUSTED"}, "overloaded"),
        ({"code": 500, "status": "INTERNAL"}, "failed"),
        ({"code": "x"}, "failed"),
        ("Traceback", "failed"),
        (7, "failed"),
    ],
)
def test_an_error_of_the_agent_is_ours_in_a_sentence(error: object, kind: str) -> None:
    found = of_error(error)
    assert (found.kind, isinstance(found, OverloadedError)) == (kind, kind == "overloaded")
    assert str(found).startswith("The agent's runtime ")
    assert "secret" not in str(found)
