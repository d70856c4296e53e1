"""The text that `agent-service ask` reads from the answers of each protocol, and why there is none."""

from collections.abc import Iterable
from typing import Any

import pytest

from agent_service.client.protocols import PROTOCOLS, BrokenOffError, RefusedError, reason

Value = Any


def text(*parts: str) -> Value:
    """Return the parts of a message of A2A."""
    return {"parts": [{"text": part} for part in parts] + [{"data": {"type": "tool_use"}}]}


def status(state: str, *parts: str) -> Value:
    """Return an update of the status of a task of A2A."""
    return {"result": {"statusUpdate": {"status": {"state": f"TASK_STATE_{state}", "message": text(*parts)}}}}


def delta(content: str | None) -> Value:
    """Return a chunk of a chat completion."""
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None}]}


def block(content: str) -> Value:
    """Return an event of the Messages API with text."""
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": content}}


def artifact(content: str, **update: bool) -> Value:
    """Return an update of the answer of a task of A2A, which is appended unless `update` says otherwise."""
    return {"result": {"artifactUpdate": {"artifact": text(content), "append": True, **update}}}


WHOLE: dict[str, list[Value]] = {
    "native": [
        {"type": "text", "content": "Aye"},
        {"type": "tool_use", "id": "1", "name": "look", "input": {}},
        {"type": "text", "content": " aye"},
        {"type": "done", "input_tokens": 1},
    ],
    "openai": [delta(""), delta("Aye"), delta(None), delta(" aye"), {"choices": [], "usage": {}}, "[DONE]"],
    "anthropic": [
        {"type": "message_start", "message": {}},
        block("Aye"),
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "ping"},
        block(" aye"),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ],
    "a2a": [
        {"result": {"task": {"id": "1", "status": {"state": "TASK_STATE_SUBMITTED"}}}},
        status("WORKING", "not the answer"),
        artifact("Aye"),
        artifact(" aye"),
        artifact("Aye aye", append=False, lastChunk=True),
        status("COMPLETED"),
    ],
    "mcp": [
        {"method": "notifications/progress", "params": {"progress": 1}},
        {"result": {"content": [], "structuredContent": {"response": "Aye aye", "conversation_id": "1"}}},
    ],
}
REFUSED: list[tuple[str, Value, str]] = [
    ("native", {"type": "error", "message": "No luck."}, "No luck."),
    ("native", {"type": "input_required", "approvals": []}, "waits for an approval"),
    ("native", {"response": "", "status": "input_required"}, "waits for an approval"),
    ("openai", {"error": {"message": "No luck.", "type": "server_error"}}, "No luck."),
    ("anthropic", {"type": "error", "error": {"type": "api_error", "message": "No luck."}}, "No luck."),
    ("anthropic", {"type": "message_delta", "delta": {"stop_reason": "pause_turn"}}, "waits for an approval"),
    ("a2a", {"error": {"code": -32603, "message": "No luck."}}, "No luck."),
    ("a2a", status("FAILED", "No luck."), "No luck."),
    ("a2a", status("CANCELED"), "no reason given"),
    ("a2a", status("INPUT_REQUIRED", "a call"), "waits for an approval"),
    ("mcp", {"error": {"code": -32603, "message": "No luck."}}, "No luck."),
    ("mcp", {"result": {"isError": True, "content": [{"type": "text", "text": "No luck."}]}}, "No luck."),
    ("mcp", {"result": {"structuredContent": {"response": "", "status": "input_required"}}}, "waits for an approval"),
]


def pieces(api: str, values: Iterable[Value]) -> list[str]:
    """Return the pieces of text in the JSON values of an answer."""
    return list(PROTOCOLS[api].pieces(values))


@pytest.mark.parametrize("api", WHOLE)
def test_the_text_is_that_of_the_answer_alone(api: str) -> None:
    assert "".join(pieces(api, WHOLE[api])) == "Aye aye"


def test_a_text_of_a2a_that_replaces_another_is_on_a_line_of_its_own() -> None:
    values = [artifact("Aye"), artifact("No.", append=False), status("COMPLETED")]

    assert "".join(pieces("a2a", values)) == "Aye\nNo."


def test_each_protocol_has_an_example() -> None:
    assert WHOLE.keys() == PROTOCOLS.keys()


@pytest.mark.parametrize("api", WHOLE)
@pytest.mark.parametrize("values", [[], ["<html>"], [{}], [None], [[]], [{"result": None}], [{"choices": None}]])
def test_what_is_no_answer_or_has_no_end_is_not_taken_for_one(api: str, values: list[Value]) -> None:
    for broken in (values, [*WHOLE[api][:-1], *values]):
        with pytest.raises(BrokenOffError):
            pieces(api, broken)


@pytest.mark.parametrize(("api", "value", "sentence"), REFUSED)
def test_an_error_within_the_answer_is_raised_with_its_sentence(api: str, value: Value, sentence: str) -> None:
    with pytest.raises(RefusedError, match=sentence):
        pieces(api, [*WHOLE[api][:-1], value])


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ({"detail": "Too many."}, "Too many."),
        ({"detail": [{"loc": ["body"], "msg": "Too long."}]}, "Too long."),
        ({"error": {"message": "Too many.", "type": "rate_limit_error"}}, "Too many."),
        ({"type": "error", "error": {"type": "x", "message": "Too many."}}, "Too many."),
        ({"jsonrpc": "2.0", "id": None, "error": {"code": 1, "message": "Too many."}}, "Too many."),
        ("Not Found", "no reason given"),
        (None, "no reason given"),
    ],
)
def test_the_reason_of_a_refusal_is_found_in_every_form(answer: Value, sentence: str) -> None:
    assert reason(answer) == sentence
