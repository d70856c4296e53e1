"""Chat completions and models: the official `openai` SDK in front of the real service."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from service.openai_clients import IMAGE, NAME, PNG, assistant, official, user
from stand_in import StandIn, asking
from support.agent import KEY, MakeClient, Service, running_service
from support.redis_server import RedisServer

ONE, TWO = "client-key-one-0123456789", "client-key-two-9876543210"


@pytest.fixture
def sdk(service: Service) -> Iterator[openai.OpenAI]:
    with official(service.url) as client:
        yield client


@pytest.fixture(scope="module")
def strict_process(
    stand_in_process: StandIn, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Run an agent with client keys and narrow limits."""
    with running_service(
        tmp_path_factory.mktemp("strict"),
        ANTHROPIC_API_KEY=KEY,
        ANTHROPIC_BASE_URL=stand_in_process.url,
        REDIS_URL=redis_process.url,
        API_KEYS=f"{ONE},{TWO}",
        RATE_LIMIT_REQUESTS="8",
        API_MAX_BODY_BYTES="20000",
        API_MAX_INPUT_TOKENS="1000",
        AGENT_NAME="clerk",
    ) as running:
        yield running


@pytest.fixture
def strict(strict_process: Service, stand_in: StandIn, redis_server: RedisServer) -> Service:
    """Return it with an empty Redis, so that no request of another test counts."""
    assert stand_in.requests() == []
    return strict_process


def ask(sdk: openai.OpenAI, *messages: Any, **options: Any) -> Any:
    return sdk.chat.completions.create(model="gpt-5", messages=list(messages), **options)


def sent(stand_in: StandIn) -> list[dict[str, Any]]:
    """Return the messages of the last request at the model API."""
    messages: list[dict[str, Any]] = json.loads(stand_in.last()["body"])["messages"]
    return messages


def test_an_answer_has_the_text_the_reason_of_its_end_and_the_tokens(sdk: openai.OpenAI) -> None:
    answer = ask(sdk, user(asking("hello", cached=10)))
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == NAME
    (choice,) = answer.choices
    assert choice.message.content.startswith('Stand-in heard "hello')
    assert (choice.message.role, choice.finish_reason, choice.message.tool_calls) == ("assistant", "stop", None)
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens > 0
    assert usage.prompt_tokens_details.cached_tokens == 5


def test_a_stream_is_a_role_texts_an_end_and_the_tokens(sdk: openai.OpenAI) -> None:
    chunks = list(ask(sdk, user(asking("hello", words=20)), stream=True, stream_options={"include_usage": True}))
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert chunks[0].choices[0].delta.role == "assistant"
    *texts, last, tokens = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in texts).startswith('Stand-in heard "hello')
    assert [chunk.choices[0].finish_reason for chunk in (*texts, last)] == [None] * len(texts) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert tokens.choices == []
    assert tokens.usage.total_tokens > 20


def test_text_is_sent_while_the_model_is_still_generating(sdk: openai.OpenAI, stand_in: StandIn) -> None:
    stream = ask(sdk, user(asking("hello", words=20, hold="rest", after=3)), stream=True)
    texts = (text for chunk in stream if (text := chunk.choices[0].delta.content))
    first = next(texts)
    assert stand_in.last()["state"] == "running"
    stand_in.release("rest")
    assert first
    assert "".join(texts)


def test_a_stream_has_no_tokens_unless_it_is_asked_for_them(service: Service) -> None:
    answer = service.post("/v1/chat/completions", messages=[user("hello")], stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert '"usage"' not in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")


def test_the_stream_helper_of_the_sdk_puts_the_answer_together(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.stream(model="any", messages=[user(asking("hello", words=20))]) as stream:
        events = [event.type for event in stream]
        answer = stream.get_final_completion()
    assert "content.delta" in events
    assert str(answer.choices[0].message.content).startswith('Stand-in heard "hello')


def test_the_client_keeps_the_history(sdk: openai.OpenAI, stand_in: StandIn, redis_server: RedisServer) -> None:
    ask(sdk, user("one"), assistant("two"), user([{"type": "text", "text": "three"}]))
    assert sent(stand_in) == [user("one"), assistant("two"), user("three")]
    assert b"conversation" not in redis_server.command("KEYS", "*")


def test_system_and_developer_messages_are_added_to_the_system_prompt_of_the_agent(
    sdk: openai.OpenAI, stand_in: StandIn
) -> None:
    ask(
        sdk,
        {"role": "system", "content": "In rhyme."},
        user("hello"),
        {"role": "developer", "content": [{"type": "text", "text": "In French."}]},
    )
    assert stand_in.last()["system"] == "Be brief.\n\nIn rhyme.\n\nIn French."


def test_messages_that_the_model_api_would_refuse_are_put_in_order(sdk: openai.OpenAI, stand_in: StandIn) -> None:
    ask(sdk, assistant("Welcome!"), user("one"), user("two"), assistant(""), assistant(None), user(" "), user("three"))
    first, *others = sent(stand_in)
    assert first["role"] == "user"
    assert others == [assistant("Welcome!"), user("one\n\ntwo\n\nthree")]


def test_pictures_and_files_reach_the_model(sdk: openai.OpenAI, stand_in: StandIn) -> None:
    pdf = f"data:application/pdf;base64,{PNG}"
    note = "data:text/plain;charset=utf-8;base64,aMOpbGxv"
    ask(
        sdk,
        user([{"type": "image_url", "image_url": {"url": "https://pictures.example/a.png", "detail": "low"}}]),
        assistant("A cat."),
        user(
            [
                {"type": "text", "text": "And these?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                {"type": "file", "file": {"file_data": pdf, "filename": "a.pdf"}},
                {"type": "file", "file": {"file_data": note}},
            ]
        ),
    )
    first, _, last = sent(stand_in)
    assert first["content"] == [{"type": "image", "source": {"type": "url", "url": "https://pictures.example/a.png"}}]
    text, picture, document, plain = last["content"]
    assert text == {"type": "text", "text": "And these?"}
    assert picture == {"type": "image", "source": IMAGE}
    assert document["source"] == {"type": "base64", "media_type": "application/pdf", "data": PNG}
    assert document["title"] == "a.pdf"
    assert plain["source"] == {"type": "text", "media_type": "text/plain", "data": "héllo"}


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_may_be_limited_below_the_limit_of_the_agent(
    sdk: openai.OpenAI, stand_in: StandIn, name: str
) -> None:
    limit: dict[str, Any] = {name: 7}
    ask(sdk, user("hello"), **limit)
    assert stand_in.last()["max_tokens"] == 7
    ask(sdk, user("hello"), **{name: 10_000_000})
    assert stand_in.last()["max_tokens"] < 10_000_000


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [({"stop": "max_tokens"}, "length"), ({"refusal": True}, "content_filter"), ({"stop": "stop_sequence"}, "stop")],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_reason_of_the_end_is_in_the_words_of_openai(
    sdk: openai.OpenAI, behaviour: dict[str, Any], reason: str, *, stream: bool
) -> None:
    answer = ask(sdk, user(asking("hello", **behaviour)), stream=stream)
    choice = (list(answer)[-1] if stream else answer).choices[0]
    assert choice.finish_reason == reason


def test_characters_of_all_planes_arrive_and_return_unchanged(sdk: openai.OpenAI) -> None:
    message = 'naïve 😀 漢字 \u2028 \\ " line\nend \u0007'
    assert f'"{message}"' in ask(sdk, user(message)).choices[0].message.content
    text = "".join(chunk.choices[0].delta.content or "" for chunk in ask(sdk, user(message), stream=True))
    assert f'"{message}"' in text


def test_half_a_surrogate_pair_and_nul_are_replaced(service: Service) -> None:
    body = b'{"messages": [{"role": "user", "content": "a\\ud83d b\\u0000c"}]}'
    answer = httpx.post(f"{service.url}/v1/chat/completions", content=body)
    assert (
        '"a\N{REPLACEMENT CHARACTER} b\N{REPLACEMENT CHARACTER}c"' in answer.json()["choices"][0]["message"]["content"]
    )


def test_an_error_within_a_stream_is_raised_by_the_sdk(sdk: openai.OpenAI) -> None:
    stream = ask(sdk, user(asking(error="overloaded_error", after=3, words=20)), stream=True)
    texts: list[str] = []
    with pytest.raises(openai.APIError) as raised:
        texts.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "overloaded" in raised.value.message
    assert raised.value.type == "server_error"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("behaviour", "error", "status"),
    [
        ({"fault": 429, "retry_after": 7}, openai.RateLimitError, 429),
        ({"fault": 400}, openai.InternalServerError, 502),
        ({"fault": 529, "retry_after": 0.01}, openai.InternalServerError, 503),
        ({"too_long": True}, openai.BadRequestError, 400),
    ],
)
def test_errors_of_the_model_are_errors_of_the_sdk(
    sdk: openai.OpenAI, behaviour: dict[str, Any], error: type[openai.APIStatusError], status: int, *, stream: bool
) -> None:
    with pytest.raises(error) as raised:
        ask(sdk, user(asking("hello", **behaviour)), stream=stream)
    assert raised.value.status_code == status
    assert raised.value.message
    assert raised.value.request_id


def test_a_wrong_key_is_an_authentication_error(strict: Service) -> None:
    with official(strict.url, "wrong") as sdk, pytest.raises(openai.AuthenticationError) as raised:
        ask(sdk, user("hello"))
    assert raised.value.code == "invalid_api_key"
    with official(strict.url, ONE) as sdk:
        assert ask(sdk, user("hello")).choices[0].message.content


def test_the_limit_of_requests_is_in_the_headers_of_openai(strict: Service) -> None:
    with official(strict.url, TWO) as sdk:
        headers = sdk.chat.completions.with_raw_response.create(model="any", messages=[user("hello")]).headers
        assert headers["x-ratelimit-limit-requests"] == "8"
        assert headers["x-ratelimit-remaining-requests"] == "7"
        for _ in range(7):
            sdk.models.list()
        with pytest.raises(openai.RateLimitError) as raised:
            ask(sdk, user("hello"))
    assert raised.value.code == "rate_limit_exceeded"
    assert int(raised.value.response.headers["retry-after"]) > 0


def test_input_that_is_too_large_is_refused(strict: Service, stand_in: StandIn) -> None:
    with official(strict.url, ONE) as sdk:
        with pytest.raises(openai.APIStatusError) as raised:
            ask(sdk, user("x" * 20_000))
        assert raised.value.status_code == 413
        with pytest.raises(openai.BadRequestError) as refused:
            ask(sdk, user("x" * 5_000))
    assert refused.value.code == "context_length_exceeded"
    assert stand_in.requests() == []


def test_the_agent_is_the_only_model(strict: Service) -> None:
    with official(strict.url, ONE) as sdk:
        assert [model.id for model in sdk.models.list()] == ["clerk"]
        assert sdk.models.retrieve("clerk").object == "model"
        with pytest.raises(openai.NotFoundError) as raised:
            sdk.models.retrieve("gpt-5")
        assert ask(sdk, user("hello")).model == "clerk"
    assert "This agent is 'clerk'" in str(raised.value)


async def test_the_protocol_can_be_switched_off(make_client: MakeClient) -> None:
    client = await make_client(api_openai=False)
    assert (await client.post("/v1/chat/completions", json={"messages": [user("hello")]})).status_code == 404
