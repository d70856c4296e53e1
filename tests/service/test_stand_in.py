"""The stand-in speaks the wire format: the official SDK, used directly, accepts its answers."""

from collections.abc import AsyncIterator

import anthropic
import pytest

from stand_in import StandIn, asking

MODEL = "claude-sonnet-5-5"
THINKING = asking("hello", thinking=True)


@pytest.fixture
async def sdk(stand_in: StandIn) -> AsyncIterator[anthropic.AsyncAnthropic]:
    client = anthropic.AsyncAnthropic(
        api_key="sk-direct", base_url=stand_in.url, max_retries=0, _strict_response_validation=True
    )
    async with client:
        yield client


async def test_a_whole_message_passes_the_sdks_strict_validation(sdk: anthropic.AsyncAnthropic) -> None:
    message = await sdk.messages.create(
        model=MODEL, max_tokens=10, system="Be kind.", messages=[{"role": "user", "content": THINKING}]
    )
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[1].to_dict()["text"] == (
        f'Stand-in heard "{THINKING}" (model {MODEL}; system prompt "Be kind.").'
    )
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens == 4


async def test_the_sdk_accumulates_a_stream_to_the_same_message(sdk: anthropic.AsyncAnthropic) -> None:
    async with sdk.messages.stream(
        model=MODEL, max_tokens=10, messages=[{"role": "user", "content": THINKING}]
    ) as stream:
        kinds = [event.type async for event in stream]
        message = await stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert message.content[1].to_dict()["text"] == (f'Stand-in heard "{THINKING}" (model {MODEL}; no system prompt).')
    assert message.usage.output_tokens == 9


async def test_tokens_are_counted_without_an_answer(sdk: anthropic.AsyncAnthropic) -> None:
    count = await sdk.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "one two three"}])
    assert count.input_tokens == 3


@pytest.mark.parametrize(
    ("status", "error_class", "error_type"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.OverloadedError, "overloaded_error"),
    ],
)
async def test_a_requested_fault_raises_the_matching_sdk_error(
    sdk: anthropic.AsyncAnthropic, status: int, error_class: type[anthropic.APIStatusError], error_type: str
) -> None:
    with pytest.raises(error_class) as raised:
        await sdk.messages.create(
            model=MODEL, max_tokens=10, messages=[{"role": "user", "content": asking(fault=status, retry_after=3)}]
        )
    assert raised.value.type == error_type
    assert raised.value.request_id
    assert raised.value.response.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("key", "error_class"), [("bad-1", anthropic.AuthenticationError), ("forbidden-1", anthropic.PermissionDeniedError)]
)
async def test_a_bad_key_is_refused(
    sdk: anthropic.AsyncAnthropic, key: str, error_class: type[anthropic.APIStatusError]
) -> None:
    with pytest.raises(error_class):
        await sdk.with_options(api_key=key).messages.create(
            model=MODEL, max_tokens=10, messages=[{"role": "user", "content": "hello"}]
        )
