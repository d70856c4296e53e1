"""Requests in OpenAI's protocol that cannot be answered: each gets an error that names its field, and no model call."""

import json
from typing import Any

import httpx
import pytest

from service.openai_clients import PNG, WEATHER, assistant, user
from stand_in import StandIn
from support.agent import Service

HELLO = user("hello")
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
FUNCTION = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


def refused(service: Service, path: str, body: Any) -> dict[str, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = httpx.post(service.url + path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 404}, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"] == "invalid_request_error"
    return error


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"messages"',
        b"7",
        b'{"messages": "\xff\xfe"}',
        b'{"messages": NaN}',
        b'{"input": Infinity}',
        b"[" * 50_000,
        b'{"a":' * 50_000,
        b"{}",
        b'{"\\ud800": 1}',
    ],
)
def test_a_body_that_is_no_request_is_refused(service: Service, stand_in: StandIn, path: str, body: bytes) -> None:
    refused(service, path, body)
    assert stand_in.requests() == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [HELLO, None]}, "messages[1]"),
        ({"messages": [{}]}, "messages[0].role"),
        ({"messages": [{"role": "critic", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": 1}]}, "messages[0].role"),
        ({"messages": [user(7)]}, "messages[0].content"),
        ({"messages": [user(["a"])]}, "messages[0].content[0]"),
        ({"messages": [user([{}])]}, "messages[0].content[0].type"),
        ({"messages": [user([{"type": "video"}])]}, "messages[0].content[0].type"),
        ({"messages": [user([{"type": "text"}])]}, "messages[0].content[0].text"),
        ({"messages": [user([{"type": "text", "text": 1}])]}, "messages[0].content[0].text"),
        ({"messages": [user("")]}, "messages"),
        ({"messages": [user(" \n")]}, "messages"),
        ({"messages": [user([])]}, "messages"),
        ({"messages": [HELLO, assistant("Hi.")]}, "messages"),
        ({"messages": [{"role": "system", "content": "Rhyme."}]}, "messages"),
        ({"messages": [{"role": "system", "content": [{"type": "image_url"}]}, HELLO]}, "messages[0].content[0].type"),
        ({"messages": [user([{"type": "image_url", "image_url": "a"}])]}, "messages[0].content[0].image_url"),
        (
            {"messages": [user([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}])]},
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": [user([{"type": "image_url", "image_url": {"url": "data:image/png;base64,%%%"}}])]},
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": [user([{"type": "image_url", "image_url": {"url": f"data:image/tiff;base64,{PNG}"}}])]},
            "messages[0].content[0].image_url.url",
        ),
        ({"messages": [user([{"type": "file", "file": {"file_id": "f"}}])]}, "messages[0].content[0].file.file_id"),
        (
            {"messages": [user([{"type": "file", "file": {"file_data": f"data:text/plain;base64,{PNG}"}}])]},
            "messages[0].content[0].file.file_data",
        ),
        ({"messages": [user([{"type": "input_audio", "input_audio": {"data": PNG}}])]}, "messages[0].content[0]"),
        ({"messages": [HELLO, assistant(None, tool_calls=[CALL])]}, "messages[1].tool_calls"),
        ({"messages": [HELLO, assistant(None, function_call={"name": "a"})]}, "messages[1].function_call"),
        ({"messages": [HELLO, {"role": "tool", "tool_call_id": "c1", "content": "a"}]}, "messages[1]"),
        ({"messages": [HELLO], "tools": [FUNCTION]}, "tools"),
        ({"messages": [HELLO], "functions": [{"name": "weather"}]}, "functions"),
        ({"messages": [HELLO], "n": 2}, "n"),
        ({"messages": [HELLO], "logprobs": True}, "logprobs"),
        ({"messages": [HELLO], "response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": [HELLO], "modalities": ["text", "audio"]}, "modalities"),
        ({"messages": [HELLO], "stop": ["END"]}, "stop"),
        ({"messages": [HELLO], "stream": "yes"}, "stream"),
        ({"messages": [HELLO], "stream_options": []}, "stream_options"),
        ({"messages": [HELLO], "max_tokens": 0}, "max_tokens"),
        ({"messages": [HELLO], "max_tokens": True}, "max_tokens"),
        ({"messages": [HELLO], "max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"messages": [HELLO], "model": 7}, "model"),
    ],
)
def test_a_chat_that_cannot_be_answered_names_the_field(
    service: Service, stand_in: StandIn, body: dict[str, Any], param: str
) -> None:
    assert refused(service, CHAT, body)["param"] == param
    assert stand_in.requests() == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": " "}, "input"),
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"input": ["hello"]}, "input[0]"),
        ({"input": [{}]}, "input[0].role"),
        ({"input": [{"type": "video"}]}, "input[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [user([{"type": "input_image", "file_id": "f"}])]}, "input[0].content[0].file_id"),
        ({"input": [user([{"type": "input_image", "image_url": "a"}])]}, "input[0].content[0].image_url"),
        ({"input": [user([{"type": "input_file", "file_url": "a"}])]}, "input[0].content[0].file_url"),
        ({"input": [HELLO, assistant("Hi.")]}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "a"}]}, "input[0]"),
        ({"input": [{"type": "mcp_approval_response", "approval_request_id": "m"}]}, "input[0].approval_request_id"),
        ({"input": "a", "instructions": 7}, "instructions"),
        ({"input": "a", "tools": [{"type": "web_search"}]}, "tools"),
        ({"input": "a", "text": {"format": {"type": "json_schema", "name": "a", "schema": {}}}}, "text"),
        ({"input": "a", "max_output_tokens": "7"}, "max_output_tokens"),
        ({"input": "a", "max_tool_calls": 1}, "max_tool_calls"),
        ({"input": "a", "metadata": {"a": 7}}, "metadata.a"),
        ({"input": "a", "previous_response_id": 7}, "previous_response_id"),
        ({"input": "a", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": "a", "previous_response_id": f"resp_{'0' * 56}"}, "previous_response_id"),
        ({"input": "a", "conversation": f"conv_{'0' * 32}"}, "conversation"),
        ({"input": "a", "conversation": {"id": "x"}}, "conversation"),
        ({"input": "a", "conversation": 7}, "conversation"),
        ({"input": "a", "store": False, "previous_response_id": f"resp_{'0' * 56}"}, "previous_response_id"),
    ],
)
def test_a_response_that_cannot_be_given_names_the_field(
    service: Service, stand_in: StandIn, body: dict[str, Any], param: str
) -> None:
    assert refused(service, RESPONSES, body)["param"] == param
    assert stand_in.requests() == []


def test_tools_of_a_client_are_refused_with_the_reason(service: Service) -> None:
    error = refused(service, CHAT, {"messages": [HELLO], "tools": [FUNCTION]})
    assert error["code"] == "unsupported_parameter"
    assert "API_CLIENT_TOOLS" in error["message"]


def test_what_does_not_change_the_answer_is_ignored(service: Service) -> None:
    harmless = {
        "temperature": 0.2,
        "top_p": 1,
        "seed": 7,
        "user": "u",
        "metadata": {"a": "b"},
        "store": True,
        "n": 1,
        "stop": None,
        "tools": [],
        "response_format": {"type": "text"},
        "unknown": {"a": 1},
        "presence_penalty": 0,
        "logit_bias": {},
    }
    assert service.post(CHAT, messages=[HELLO], **harmless).status_code == 200


def test_an_error_does_not_quote_the_input(service: Service) -> None:
    error = refused(service, CHAT, {"messages": [user([{"type": "my secret plan"}])]})
    assert "secret plan" not in json.dumps(error)


def test_a_method_that_a_path_does_not_have_is_an_error_of_openai(service: Service) -> None:
    answer = service.get(CHAT)
    assert answer.status_code == 405
    assert answer.json()["error"]["type"] == "invalid_request_error"
