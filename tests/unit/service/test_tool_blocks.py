"""The parts of the tool loop without input and output: blocks of an answer, marks for the cache, and what is kept."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.agent.claude.blocks import Blocks
from agent_service.agent.claude.caching import marked
from agent_service.agent.messages import Exchange, Prompt
from agent_service.agent.step import Step
from agent_service.agent.tools import Tool, ToolResult, ToolUse
from agent_service.agent.turn_messages import TurnMessages
from agent_service.chat.kept_steps import kept, stored

ADD = Tool("add", "Add two numbers.", {"type": "object"}, "small", "add")


def filled(*events: dict[str, Any]) -> Step:
    step = Step(None, [])
    blocks = Blocks(step)
    for event in events:
        blocks.note(event)
    blocks.finish()
    return step


def start(block: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(kind: str, index: int = 0, **given: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **given}}


def stop(index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def use(raw: str) -> Step:
    half = len(raw) // 2
    return filled(
        start({"type": "tool_use", "id": "1", "name": "add", "input": {}}),
        *(delta("input_json_delta", partial_json=part) for part in ("", raw[:half], raw[half:])),
        stop(),
    )


def test_blocks_are_put_together_as_they_must_be_sent_back() -> None:
    step = filled(
        start({"type": "thinking", "thinking": "", "signature": ""}),
        delta("thinking_delta", thinking="Hm. "),
        delta("thinking_delta", thinking="Yes."),
        delta("signature_delta", signature="c2ln"),
        stop(),
        start({"type": "redacted_thinking", "data": "eA=="}, 1),
        stop(1),
        start({"type": "text", "text": ""}, 2),
        delta("text_delta", 2, text="Hel"),
        delta("text_delta", 2, text="lo"),
        delta("citations_delta", 2, citation={"cited_text": "x"}),
        delta("delta_of_the_future", 2, text="?"),
        stop(2),
        start({"type": "server_tool_use", "id": "2", "name": "web_search", "input": {}}, 3),
        delta("input_json_delta", 3, partial_json='{"query": "x"}'),
        stop(3),
        start({"type": "web_search_tool_result", "tool_use_id": "2", "content": [{"url": "u"}]}, 4),
        stop(4),
    )
    assert step.content == [
        {"type": "thinking", "thinking": "Hm. Yes.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "eA=="},
        {"type": "text", "text": "Hello", "citations": [{"cited_text": "x"}]},
        {"type": "server_tool_use", "id": "2", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "2", "content": [{"url": "u"}]},
    ]
    assert not step.unreadable


@pytest.mark.parametrize("raw", ["{", "[1]", "null", '{"a": NaN}', '{"a": "\\ud83d"}', "[" * 100_000])
def test_an_input_that_is_no_json_object_is_noted_and_left_out(raw: str) -> None:
    step = use(raw)
    assert step.content[0]["input"] == {}
    assert step.unreadable == {"1"}


@pytest.mark.parametrize(("raw", "value"), [("", {}), (" ", {}), ('{"a": "\\ud83d\\ude00"}', {"a": "😀"})])
def test_an_input_may_be_empty_or_have_escapes(raw: str, value: object) -> None:
    step = use(raw)
    assert step.content[0]["input"] == value
    assert not step.unreadable


def test_a_call_that_a_gateway_does_not_end_is_completed() -> None:
    step = filled(
        start({"type": "tool_use", "id": "1", "name": "add", "input": {}}),
        delta("input_json_delta", partial_json='{"a": 1}'),
    )
    assert step.content[0]["input"] == {"a": 1}


@pytest.mark.parametrize("block", [{"type": "tool_use", "id": 1, "name": "x"}, {"type": 5}, {}, None])
def test_a_block_of_another_form_is_an_error(block: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError)):
        filled(start(block))


def test_half_a_surrogate_pair_in_a_text_can_be_sent() -> None:
    step = filled(
        start({"type": "text", "text": ""}), delta("text_delta", text="\ud83d"), delta("text_delta", text="\ude00")
    )
    assert step.content[0]["text"] == "😀"


def turn(history: tuple[Exchange, ...] = (), server_tools: tuple[dict[str, Any], ...] = ()) -> TurnMessages:
    return TurnMessages(Prompt("Hi", history=history), [ADD], server_tools)


SEARCH = {"type": "web_search_20250305", "name": "web_search"}
SEARCHED = (
    {
        "role": "assistant",
        "content": [
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
            {"type": "text", "text": "Found."},
        ],
    },
)


def test_blocks_of_a_server_tool_are_sent_only_while_there_is_one() -> None:
    history = (Exchange("Search", "Found.", SEARCHED),)
    assert turn(history, (SEARCH,)).step(may_call=True).messages[1] == SEARCHED[0]
    assert turn(history).step(may_call=True).messages[1] == {"role": "assistant", "content": "Found."}


def test_a_server_tool_without_a_result_is_not_kept() -> None:
    messages = turn(server_tools=(SEARCH,))
    step = messages.step(may_call=True)
    step.content = [
        {"type": "text", "text": "Searching."},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
    ]
    assert messages.add_answer(step, calls=False) == []
    assert messages.transcript() is None


def test_results_go_back_in_the_order_of_the_calls() -> None:
    messages = turn()
    step = messages.step(may_call=True)
    step.content = [{"type": "tool_use", "id": str(number), "name": "add", "input": {}} for number in range(3)]
    uses = messages.add_answer(step, calls=True)
    text = ({"type": "text", "text": "x"},)
    messages.add_results(uses, [ToolResult(use.id, text, is_error=use.id == "1") for use in reversed(uses)])

    sent = messages.step(may_call=True).messages[-1]["content"]
    assert [block["tool_use_id"] for block in sent] == ["0", "1", "2"]
    assert [block.get("is_error", False) for block in sent] == [False, True, False]
    assert uses[0] == ToolUse("0", "add", {})


def question(*messages: dict[str, Any], system: str | None = "Be brief.") -> dict[str, Any]:
    tools = [{"name": "a"}, {"name": "b"}]
    return {"tools": tools, "messages": list(messages)} | ({"system": system} if system else {})


def test_tools_system_prompt_and_the_last_two_messages_are_marked() -> None:
    hi = {"role": "user", "content": "Hi"}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]}
    mark = {"cache_control": {"type": "ephemeral"}}
    found = marked(question(hi, answer, hi, answer, hi))
    marks = ["cache_control" in str(message) for message in found["messages"]]

    assert marks == [False, False, True, False, True]
    assert found["system"] == [{"type": "text", "text": "Be brief.", **mark}]
    assert found["tools"] == [{"name": "a"}, {"name": "b"}]
    assert marked(question(hi, system=None))["tools"] == [{"name": "a"}, {"name": "b", **mark}]


def test_marks_do_not_change_what_they_are_put_on() -> None:
    given = question({"role": "user", "content": [{"type": "text", "text": "Hi"}]})
    before = json.dumps(given)
    marked(given)
    assert json.dumps(given) == before


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "id", "tool_use_id", "text"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.lists(VALUES, max_size=4))
def test_any_stored_list_is_read_without_an_error(messages: list[Any]) -> None:
    assert isinstance(stored(messages), tuple)


def test_what_is_kept_is_within_the_bound_and_can_be_read_again() -> None:
    steps = (
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "a", "input": {}}]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "x" * 9000}]}],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "Done."}]},
    )
    for bound in (20_000, 5_000, 100):
        messages, characters = kept(steps, bound)
        assert characters <= bound
        assert stored(json.loads(json.dumps(messages))) == messages
        assert bool(messages) == (bound > 100)
