"""Requests in OpenAI's protocol: any JSON is either a request that the model API takes, or refused with its field."""

import json
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent_service.agent.details import Details
from agent_service.compat.openai.chat_request import read_chat_request
from agent_service.compat.openai.errors import InvalidRequestError
from agent_service.compat.openai.fields import Fields, read_body
from agent_service.compat.openai.ids import of_approval, of_conversation, of_response, place_of
from agent_service.compat.openai.responses_request import read_response_request

TEXT = st.sampled_from(["", " ", "a", "b\n", "\ud800", "\0", "😀", '{"a":1}', "data:image/png;base64,aGk="])
NAMES = st.sampled_from(
    [
        *("role", "content", "type", "text", "tool_calls", "tool_call_id", "id", "function", "name", "arguments"),
        *("call_id", "image_url", "url", "file", "file_data", "output", "approval_request_id", "approve", "refusal"),
    ]
)
WORDS = st.sampled_from(
    [
        *("user", "assistant", "system", "tool", "text", "image_url", "file", "message", "function", "function_call"),
        *("function_call_output", "mcp_approval_response", "input_text", "input_image", "input_file", "mcp_call"),
    ]
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"])},
    optional={
        "content": TEXT | JSON | st.lists(st.fixed_dictionaries({"type": WORDS}, optional={"text": TEXT}), max_size=3),
        "tool_calls": JSON,
        "tool_call_id": TEXT,
    },
)
ITEM = MESSAGE | st.fixed_dictionaries({"type": WORDS}, optional={"call_id": TEXT, "arguments": TEXT, "output": JSON})
FUNCTION = {"type": "function", "name": "f", "function": {"name": "f"}}


def check(message: str, details: Details) -> None:
    """Assert what the Messages API requires, and that UTF-8 can encode it."""
    assert message.strip()
    messages: list[Mapping[str, Any]] = [
        *(details.earlier or ()),
        {"role": "user", "content": details.content or message},
    ]
    assert messages[0]["role"] == "user"
    assert all(one["role"] != two["role"] for one, two in pairwise(messages))
    for each in messages:
        content = each["content"]
        texts = [content] if isinstance(content, str) else [block["text"] for block in content if "text" in block]
        assert content
        assert all(text.strip() for text in texts)
    json.dumps([message, messages, details.instructions, details.tools], ensure_ascii=False).encode()


@given(st.lists(MESSAGE | JSON, max_size=5), st.booleans())
def test_any_messages_are_a_question_or_refused(messages: list[Any], tools: bool) -> None:
    body = {"messages": messages} | ({"tools": [FUNCTION]} if tools else {})
    try:
        asked = read_chat_request(Fields(body), takes_tools=True)
    except InvalidRequestError as error:
        json.dumps(error.body(), ensure_ascii=False).encode()
        return
    check(asked.message, asked.details)


@given(st.lists(ITEM | JSON, max_size=5) | JSON, st.booleans())
def test_any_input_is_a_question_or_refused(items: Any, tools: bool) -> None:
    body = {"input": items} | ({"tools": [FUNCTION]} if tools else {})
    try:
        asked = read_response_request(Fields(body), takes_tools=True)
    except InvalidRequestError as error:
        json.dumps(error.body(), ensure_ascii=False).encode()
        return
    if not asked.decisions:
        check(asked.message, asked.details)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_an_object_or_refused(content: bytes) -> None:
    with suppress(InvalidRequestError):
        read_body(content)


@given(st.uuids(), st.text())
def test_ids_lead_back_to_the_conversation_and_the_message(conversation: Any, message: str) -> None:
    place = place_of(str(conversation), message)
    assert of_response(place.response_id()) == place
    call = f"{conversation}.12"
    assert of_approval(place.approval_id(call)) == (place, call)
    assert of_conversation(f"conv_{conversation.hex}") == str(conversation)


@given(st.text())
def test_other_ids_are_unknown(text: str) -> None:
    assert of_response(text) is None
    assert of_approval(text) is None
    assert of_conversation(text) is None
