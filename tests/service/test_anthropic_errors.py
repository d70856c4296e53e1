"""Errors of the Messages API: malformed bodies, fields that are refused, keys, limits, and faults of the model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from service.anthropic_agent import TINY_PNG, VERSION, Body, body, post, running_desk, sdk
from stand_in import StandIn, asking
from support.agent import Service
from support.redis_server import RedisServer

# Longer than any error that names the fault.
MOST_BYTES = 2000


@pytest.fixture(scope="module")
def desk_process(
    stand_in_process: StandIn, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("desk")
    bounds = {"API_MAX_BODY_BYTES": "400000", "API_MAX_INPUT_TOKENS": "50000", "RATE_LIMIT_REQUESTS": "1000"}
    with running_desk(folder, stand_in_process, redis_process, None, **bounds) as service:
        yield service


@pytest.fixture
def desk(desk_process: Service, stand_in: StandIn, redis_server: RedisServer) -> Service:
    """Return an agent without tools, shared by many tests."""
    return desk_process


def test_the_agent_is_the_only_model_also_without_the_protocol_of_openai(
    tmp_path: Path, stand_in: StandIn, redis_server: RedisServer
) -> None:
    with running_desk(tmp_path, stand_in, redis_server, None, API_OPENAI="false", AGENT_NAME="clerk") as service:
        client = sdk(service)
        assert [model.id for model in client.models.list()] == ["clerk"]
        assert client.models.retrieve("clerk").display_name == "clerk"
        with pytest.raises(anthropic.NotFoundError, match="This agent is 'clerk'"):
            client.models.retrieve("claude-sonnet-5-5")


def of_user(*blocks: Any) -> Body:
    return body(list(blocks))


def with_messages(*messages: Any) -> Body:
    return body() | {"messages": list(messages)}


USER = {"role": "user", "content": "Hello"}
IMAGE = {"type": "base64", "media_type": "image/png", "data": TINY_PNG}
DEEP = '{"a":' * 300 + "1" + "}" * 300

MALFORMED: dict[str, tuple[Body | bytes, str]] = {
    "nothing": (b"", "JSON"),
    "no JSON": (b"{", "JSON"),
    "no UTF-8": (b'{"model":"\xff"}', "JSON"),
    "half a surrogate pair": (json.dumps(body("\ud800")).encode(), "JSON"),
    "too deep for a parser": (b"[" * 100_000, "JSON"),
    "a list": (b"[]", "body: must be an object"),
    "no model": ({**body(), "model": None}, "model"),
    "an empty model": ({**body(), "model": ""}, "model"),
    "no max_tokens": ({**body(), "max_tokens": None}, "max_tokens"),
    "max_tokens of zero": ({**body(), "max_tokens": 0}, "max_tokens"),
    "max_tokens as text": ({**body(), "max_tokens": "10"}, "max_tokens"),
    "stream as text": ({**body(), "stream": "yes"}, "stream"),
    "an unknown field": ({**body(), "frequency": 1}, "frequency: Extra inputs are not permitted"),
    "a long unknown field": ({**body(), "x" * 100_000: 1}, "Extra inputs"),
    "no messages": (with_messages(), "messages"),
    "messages as text": ({**body(), "messages": "Hello"}, "messages"),
    "a message as text": (with_messages("Hello"), "messages.0"),
    "an unknown role": (with_messages({"role": "tool", "content": "x"}), "messages.0.role"),
    "no content": (with_messages({"role": "user"}), "messages.0.content"),
    "blank content": (body(" \n"), "messages.0.content"),
    "an empty list": (body([]), "messages.0.content"),
    "blank text blocks": (of_user({"type": "text", "text": " "}), "messages.0.content"),
    "a block as text": (of_user("Hello"), "messages.0.content.0"),
    "a block without a type": (of_user({"text": "Hello"}), "messages.0.content.0.type"),
    "a block of an unknown type": (of_user({"type": "video"}), "'video' is not supported"),
    "a text that is a number": (of_user({"type": "text", "text": 1}), "messages.0.content.0.text"),
    "only a message of the system": (with_messages({"role": "system", "content": "x"}), "first message"),
    "a first message of the assistant": (with_messages({"role": "assistant", "content": "x"}, USER), "first message"),
    "prefill": (with_messages(USER, {"role": "assistant", "content": "The answer is ("}), "prefill"),
    "an image without a source": (of_user({"type": "image"}), "messages.0.content.0.source"),
    "an image that is not base64": (
        of_user({"type": "image", "source": {**IMAGE, "data": "%%%"}}),
        "messages.0.content.0.source.data: is not base64",
    ),
    "an empty image": (of_user({"type": "image", "source": {**IMAGE, "data": ""}}), "is empty"),
    "an image of another type": (
        of_user({"type": "image", "source": {**IMAGE, "media_type": "image/tiff"}}),
        "media_type: must be one of image/jpeg",
    ),
    "a file": (of_user({"type": "image", "source": {"type": "file", "file_id": "file_1"}}), "Files API"),
    "a document with citations": (
        of_user(
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "x"},
                "citations": {"enabled": True},
            }
        ),
        "citations",
    ),
    "a container": (of_user({"type": "container_upload", "file_id": "file_1"}), "container_upload"),
    "a result without a call": (
        of_user({"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}),
        "no call before the result 'toolu_1'",
    ),
    "a call without a result": (
        with_messages(
            USER, {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": {}}]}, USER
        ),
        "the call 'a' has no result",
    ),
    "a call with an input that is no object": (
        with_messages(
            USER, {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": 1}]}, USER
        ),
        "messages.1.content.0.input",
    ),
    "a call with an id that has spaces": (
        with_messages(
            USER, {"role": "assistant", "content": [{"type": "tool_use", "id": "a b", "name": "b", "input": {}}]}, USER
        ),
        "messages.1.content.0.id",
    ),
    "a call that is nested too deeply": (
        json.dumps(
            with_messages(
                USER,
                {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": "DEEP"}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}]},
            )
        )
        .replace('"DEEP"', DEEP)
        .encode(),
        "",
    ),
    "a system prompt that is a number": ({**body(), "system": 1}, "system"),
    "a system prompt with an image": ({**body(), "system": [{"type": "image", "source": IMAGE}]}, "system.0.type"),
    "tools as an object": ({**body(), "tools": {}}, "tools: must be a list"),
    "a choice without tools": ({**body(), "tool_choice": {"type": "any"}}, "tool_choice: 'any' needs tools"),
    "an unknown choice": ({**body(), "tool_choice": {"type": "some"}}, "tool_choice.type"),
}


@pytest.mark.parametrize(("content", "names"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_body_is_an_invalid_request_that_names_the_field(
    desk: Service, stand_in: StandIn, content: Body | bytes, names: str
) -> None:
    answer = post(desk, content)

    assert answer.status_code == 400, answer.text
    error = answer.json()
    assert error["type"] == "error"
    assert error["error"]["type"] == "invalid_request_error"
    assert names in error["error"]["message"]
    assert error["request_id"] == answer.headers["request-id"]
    assert len(answer.content) < MOST_BYTES
    assert stand_in.requests() == []


# Each would change what the answer is.
REFUSED: dict[str, Body] = {
    "stop_sequences": {"stop_sequences": ["END"]},
    "output_config.format": {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
    "output_format": {"output_format": {"type": "json_schema", "schema": {"type": "object"}}},
    "mcp_servers": {"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}]},
    "container": {"container": {"skills": []}},
    "inference_geo": {"inference_geo": "eu"},
}


@pytest.mark.parametrize(("field", "given"), REFUSED.items(), ids=REFUSED)
def test_fields_that_would_change_the_answer_are_refused_by_name(
    desk: Service, stand_in: StandIn, field: str, given: Body
) -> None:
    answer = post(desk, body(**given))

    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"].startswith(f"{field}: ")
    assert stand_in.requests() == []


def test_fields_without_an_effect_on_the_answer_are_accepted(desk: Service, stand_in: StandIn) -> None:
    given = {
        "temperature": 0.2,
        "top_p": 0.9,
        "top_k": 5,
        "metadata": {"user_id": "user-1"},
        "service_tier": "auto",
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "medium"},
        "context_management": {"edits": []},
        "stop_sequences": [],
        "mcp_servers": [],
        "cache_control": {"type": "ephemeral"},
    }
    assert post(desk, body(**given)).status_code == 200
    assert not set(given) & set(json.loads(stand_in.last()["body"]))


def test_thoughts_and_calls_of_another_api_are_left_out(desk: Service, stand_in: StandIn) -> None:
    left_out: list[Body] = [
        {"type": "thinking", "thinking": "Hm.", "signature": "x"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    ]
    answers = [{"role": "assistant", "content": [*left_out, {"type": "text", "text": "Yes."}]}]
    answer = post(desk, with_messages(USER, *answers, USER, {"role": "assistant", "content": left_out}, USER))

    assert answer.status_code == 200, answer.text
    assert json.loads(stand_in.last()["body"])["messages"][1]["content"] == [{"type": "text", "text": "Yes."}]


def test_a_nul_in_a_text_is_replaced(desk: Service, stand_in: StandIn) -> None:
    assert post(desk, body("a\0b \\u0000")).status_code == 200
    assert stand_in.last()["message"] == "a\N{REPLACEMENT CHARACTER}b \\u0000"


def test_a_missing_or_unknown_key_is_an_authentication_error(desk: Service) -> None:
    with sdk(desk, key="unknown-key") as client, pytest.raises(anthropic.AuthenticationError) as raised:
        client.messages.create(**body())
    assert raised.value.request_id
    assert raised.value.body["error"]["type"] == "authentication_error"  # type: ignore[index]

    headers = {**VERSION, "authorization": "Bearer client-key-0123456789abcdef"}
    assert httpx.post(f"{desk.url}/v1/messages", json=body(), headers=headers, timeout=30).status_code == 200


FAULTS: dict[str, tuple[Body, type[anthropic.APIStatusError], str]] = {
    "rate limit": ({"fault": 429, "retry_after": 7}, anthropic.RateLimitError, "rate_limit_error"),
    "overloaded": ({"fault": 529}, anthropic.ServiceUnavailableError, "overloaded_error"),
    "failed": ({"fault": 500}, anthropic.InternalServerError, "api_error"),
    "refused": ({"fault": 400}, anthropic.InternalServerError, "api_error"),
    "too long": ({"too_long": True}, anthropic.BadRequestError, "invalid_request_error"),
}


@pytest.mark.parametrize(("behaviour", "kind", "name"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_fault_of_the_model_is_an_error_of_the_sdk(
    desk: Service, behaviour: Body, kind: type[anthropic.APIStatusError], name: str, *, streamed: bool
) -> None:
    with sdk(desk) as client, pytest.raises(kind) as raised:
        client.messages.create(**body(asking("Hello", **behaviour), stream=streamed))

    found: Any = raised.value.body
    assert found["error"]["type"] == name
    assert found["request_id"] == raised.value.request_id
    if "retry_after" in behaviour:
        assert raised.value.response.headers["retry-after"] == "7"


def test_a_fault_after_the_first_byte_is_an_error_event(desk: Service) -> None:
    lines = post(desk, body(asking("Hello", error="overloaded_error", after=2), stream=True)).text.splitlines()

    assert lines.count("event: error") == 1
    last: Any = json.loads([line for line in lines if line.startswith("data: ")][-1][6:])
    assert last["type"] == "error"
    assert last["error"]["type"] == "overloaded_error"


def test_a_body_beyond_the_limit_is_too_large(desk: Service) -> None:
    with sdk(desk) as client, pytest.raises(anthropic.APIStatusError) as raised:
        client.messages.create(**body("x" * 500_000))
    assert raised.value.status_code == 413
    assert raised.value.body["error"]["type"] == "request_too_large"  # type: ignore[index]


def test_an_input_beyond_the_limit_of_tokens_is_refused(desk: Service, stand_in: StandIn) -> None:
    with sdk(desk) as client, pytest.raises(anthropic.BadRequestError, match="this agent takes at most 50000"):
        client.messages.create(**body("x" * 300_000))
    assert stand_in.requests() == []


def test_the_limit_of_requests_has_the_headers_of_the_api(desk: Service) -> None:
    headers = post(desk, body()).headers

    assert headers["anthropic-ratelimit-requests-limit"] == "1000"
    assert int(headers["anthropic-ratelimit-requests-remaining"]) < 1000
    assert headers["anthropic-ratelimit-requests-reset"].endswith("Z")


def test_other_methods_and_paths_are_errors_of_the_api(desk: Service) -> None:
    headers = {**VERSION, "x-api-key": "client-key-0123456789abcdef"}
    assert httpx.get(f"{desk.url}/v1/messages", headers=headers).json()["error"]["type"] == "invalid_request_error"
    missing = httpx.post(f"{desk.url}/v1/messages/batches", headers=headers, json={})
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
