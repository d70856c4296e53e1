"""Vercel's AI SDK (npm `ai`) in front of the real service, with both of its providers for OpenAI's APIs."""

from collections.abc import Iterator
from typing import Any

import pytest

from service.openai_clients import PNG, WEATHER, user
from stand_in import StandIn, asking
from support.agent import Service, running_service
from support.openai_clients import ai_sdk

APIS = pytest.mark.parametrize("api", ["chat", "responses"])


@pytest.fixture(scope="module")
def with_client_tools(shared_settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run an agent that takes the tools of its clients."""
    with running_service(tmp_path_factory.mktemp("tools"), **shared_settings, API_CLIENT_TOOLS="true") as running:
        yield running


@APIS
@pytest.mark.parametrize("stream", [False, True])
def test_the_sdk_returns_the_text_and_the_tokens(service: Service, api: str, *, stream: bool) -> None:
    answer = ai_sdk(service.url, api=api, stream=stream, system="In rhyme.", messages=[user("hello")])
    assert answer["text"] == (
        'Stand-in heard "hello" (model claude-sonnet-5-5; system prompt "Be brief.\n\nIn rhyme.").'
    ), answer
    assert answer["finishReason"] == "stop"
    assert answer["usage"]["inputTokens"] > 0
    assert answer["usage"]["outputTokens"] > 0


@APIS
def test_the_sdk_sends_the_history_and_pictures(service: Service, stand_in: StandIn, api: str) -> None:
    picture = {"type": "file", "data": PNG, "mediaType": "image/png"}
    messages: list[dict[str, Any]] = [
        user("one"),
        {"role": "assistant", "content": "two"},
        user([{"type": "text", "text": "three"}, picture]),
    ]
    assert "three" in ai_sdk(service.url, api=api, messages=messages)["text"]
    assert stand_in.last()["history"] == ["user: one", "assistant: two"]
    assert PNG in stand_in.last()["body"]


@APIS
def test_an_error_before_the_stream_has_its_status(service: Service, api: str) -> None:
    answer = ai_sdk(service.url, api=api, stream=True, messages=[user(asking("hello", fault=429, retry_after=7))])
    assert answer["error"]["status"] == 429, answer
    assert "limits" in answer["error"]["message"]


@APIS
def test_an_error_within_the_stream_is_an_error_of_the_sdk(service: Service, api: str) -> None:
    broken = asking(error="overloaded_error", after=3, words=20)
    answer = ai_sdk(service.url, api=api, stream=True, messages=[user(broken)])
    assert "text-delta" in answer["parts"]
    assert "overloaded" in str(answer["error"]), answer


@APIS
@pytest.mark.parametrize("stream", [False, True])
def test_the_sdk_gets_the_calls_of_its_own_tools(with_client_tools: Service, api: str, *, stream: bool) -> None:
    tools = [{"name": "weather", "description": "The weather.", "schema": WEATHER}]
    message = asking("please", calls=[[{"name": "weather", "input": {"city": "Köln"}}]])
    answer = ai_sdk(with_client_tools.url, api=api, stream=stream, tools=tools, messages=[user(message)])
    assert answer["finishReason"] == "tool-calls", answer
    (call,) = answer["toolCalls"]
    assert (call["toolName"], call["input"]) == ("weather", {"city": "Köln"})
