"""Answers in OpenAI's protocol: whatever the pieces of a text are, clients get the text, and each piece can be sent."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent_service.agent.messages import Usage, sendable
from agent_service.agent.tools import ToolResult, ToolUse
from agent_service.chat.dialogue import Reply
from agent_service.compat.openai.chat_answer import ChatForm
from agent_service.compat.openai.ids import place_of
from agent_service.compat.openai.output import Output
from agent_service.compat.openai.responses_answer import ResponseForm

HALVES = st.sampled_from(["a", "\ud83d", "\ude00", "é", "\0", "\u2028", "", "\n"])
PIECES = st.lists(st.lists(HALVES, max_size=3).map("".join), max_size=6)
END = Reply("", Usage(), "01890000-0000-7000-8000-000000000000")


def events(stream: bytes) -> list[dict[str, Any]]:
    """Return the data of a stream, each of which UTF-8 can encode."""
    found = [json.loads(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: {")]
    json.dumps(found, ensure_ascii=False).encode()
    return found


def response_form() -> ResponseForm:
    place = place_of(END.conversation_id, "hello")
    name = place.response_id()
    output = Output(place, name, client_tools=(), server_of=lambda _: None, asks=lambda _: False)
    return ResponseForm(name, "agent", output, {})


@given(PIECES)
def test_the_chunks_of_a_completion_are_its_text(pieces: list[str]) -> None:
    form = ChatForm("agent", include_usage=False, client_tools=())
    stream = form.start() + b"".join(map(form.piece, pieces)) + form.end(END)
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events(stream))
    assert text == sendable("".join(pieces))


@given(PIECES)
def test_the_deltas_of_a_response_are_its_text(pieces: list[str]) -> None:
    form = response_form()
    found = events(form.start() + b"".join(map(form.piece, pieces)) + form.end(END))
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    text = "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta")
    whole = found[-1]["response"]["output"]
    assert "".join(item["content"][0]["text"] for item in whole) == text == sendable("".join(pieces))


def test_a_text_that_replaces_another_is_the_only_one_of_the_whole_response() -> None:
    form = response_form()
    form.start()
    form.piece("first")
    form.piece(ToolUse("c", "f", {}))
    form.piece(ToolResult("c", ({"type": "text", "text": "r"},)))
    form.piece("second")
    form.restart("other")
    form.piece(" text")
    *_, last = events(form.end(END))
    call, message = last["response"]["output"]
    assert (call["type"], call["output"]) == ("mcp_call", "r")
    assert message["content"][0]["text"] == "other text"


def test_a_call_without_a_result_is_incomplete_at_the_end() -> None:
    form = response_form()
    form.piece(ToolUse("c", "f", {}))
    (call,) = form.whole(END)["output"]
    assert call["status"] == "incomplete"
