"""How calls, streams and errors are written for Amazon Bedrock and back."""

import base64
import json
from typing import Any

import anthropic
import httpx2
import pytest

from agent_service.agent.bedrock import errors
from agent_service.agent.bedrock.endpoint import Bedrock
from agent_service.agent.bedrock.frames import MEDIA_TYPE, Frames, FramesError
from agent_service.agent.bedrock.keys import AwsKeyFiles, AwsKeys
from agent_service.agent.claude.credentials import ApiKey, Credentials
from agent_service.agent.claude.endpoint import Call
from support.clouds.bedrock import chunk, exception, frame

PROFILE = "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/abc"
KEYS = AwsKeys("AKIDEXAMPLE", "secret", "token")


def endpoint(**given: Any) -> Bedrock:
    credentials: Credentials[AwsKeys | ApiKey] = Credentials(AwsKeyFiles(KEYS))
    return Bedrock(credentials, region="eu-central-1", **given)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model", ["eu.anthropic.claude-sonnet-4-6-v1:0", PROFILE, "claude with space"])
async def test_a_call_is_written_as_the_official_client_writes_it(model: str, *, streamed: bool) -> None:
    sent: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(500)

    official = anthropic.AsyncAnthropicBedrock(
        api_key="key",
        aws_region="eu-central-1",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(answer)),
    )
    question: dict[str, Any] = {"max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]}
    with pytest.raises(anthropic.InternalServerError):
        await official.messages.create(
            **question, model=model, stream=streamed, extra_headers={"anthropic-beta": "one,two"}
        )
    ours = endpoint(model_ids={"claude": model})
    rewrite = ours.rewrite(Call.MESSAGES, "claude", streamed=streamed, betas=("one", "two"))

    assert ours.address + rewrite.path == str(sent[0].url)
    body = {"model": "claude", "stream": streamed, **question}
    theirs = {**json.loads(sent[0].content), "anthropic_version": "bedrock-2023-05-31"}
    assert json.loads(rewrite.of_object(body)) == theirs
    assert json.loads(rewrite.of_bytes(json.dumps(body).encode())) == theirs


def test_the_bytes_of_a_question_stay_as_they_are() -> None:
    rewrite = endpoint().rewrite(Call.MESSAGES, "m", streamed=True)
    body = b'{ "messages" : [{"model":"\\ud83d", "stream": 1}],\n"mod\\u0065l": "m" , "x":NaN,"stream":true }'

    written = rewrite.of_bytes(body)

    assert written == (
        b'{"anthropic_version":"bedrock-2023-05-31", "messages" : [{"model":"\\ud83d", "stream": 1}],\n"x":NaN }'
    )


@pytest.mark.parametrize(
    ("body", "written"),
    [
        (b'{"model":"m"}', b'{"anthropic_version":"bedrock-2023-05-31"}'),
        (b'{"model":"m","stream":false}', b'{"anthropic_version":"bedrock-2023-05-31"}'),
        (b'{"a":[1],"model":"m","stream":false}', b'{"anthropic_version":"bedrock-2023-05-31","a":[1]}'),
        (b'{"model":"m","anthropic_version":"other"}', b'{"anthropic_version":"other"}'),
    ],
)
def test_fields_that_the_path_contains_are_left_out(body: bytes, written: bytes) -> None:
    assert endpoint().rewrite(Call.MESSAGES, "m").of_bytes(body) == written


def test_a_count_is_asked_with_the_call_in_an_envelope() -> None:
    rewrite = endpoint().rewrite(Call.COUNT_TOKENS, "anthropic.claude")
    sent = json.loads(rewrite.of_object({"model": "anthropic.claude", "messages": []}))

    assert rewrite.path == "/model/anthropic.claude/count-tokens"
    assert json.loads(base64.b64decode(sent["input"]["invokeModel"]["body"])) == {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 1,
        "messages": [],
    }
    assert json.loads(rewrite.disclose(b'{"inputTokens":7}')) == {"input_tokens": 7}


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_frames_become_events_however_they_are_cut(size: int) -> None:
    events: list[dict[str, Any]] = [{"type": "ping"}, {"type": "content_block_delta", "text": "a\nb"}]
    stream = b"".join(map(chunk, events))
    frames = Frames()
    written = b"".join(frames.feed(stream[at : at + size]) for at in range(0, len(stream), size))

    assert written == b"".join(
        f"event: {each['type']}\ndata: {json.dumps(each, separators=(',', ':'))}\n\n".encode() for each in events
    )


def test_an_exception_in_a_stream_is_an_error_event() -> None:
    written = Frames().feed(exception("throttlingException", "Too many requests"))

    assert written.startswith(b"event: error\ndata: ")
    assert json.loads(written.split(b"data: ")[1])["error"] == {
        "type": "rate_limit_error",
        "message": "Too many requests",
    }


@pytest.mark.parametrize(
    "stream",
    [
        b"HTTP/1.1 200 OK\r\n\r\n{}{}{}",
        chunk({"type": "ping"})[:-1] + b"x",
        frame({":message-type": "event", ":event-type": "chunk"}, {"other": 1}),
        frame({":message-type": "event", ":event-type": "chunk"}, {"bytes": "bm90IEpTT04="}),
        frame({}, {}),
    ],
)
def test_other_bytes_are_no_stream(stream: bytes) -> None:
    with pytest.raises(FramesError):
        Frames().feed(stream)


def test_frames_of_unknown_events_are_skipped() -> None:
    assert Frames().feed(frame({":message-type": "event", ":event-type": "initial-response"}, {})) == b""
    assert endpoint().framing("text/event-stream") is None
    assert endpoint().framing(MEDIA_TYPE) is not None


@pytest.mark.parametrize(
    ("status", "named", "message", "translated"),
    [
        (403, "UnrecognizedClientException:http://internal/", "invalid", (401, "authentication_error")),
        (403, "ExpiredTokenException", "expired", (401, "authentication_error")),
        (403, "InvalidSignatureException", "does not match", (401, "authentication_error")),
        (403, "AccessDeniedException", "no access to the model", (403, "permission_error")),
        (403, "AccessDeniedException", "Authentication failed: API Key", (401, "authentication_error")),
        (429, "ThrottlingException", "slow down", (429, "rate_limit_error")),
        (400, "ServiceQuotaExceededException", "quota", (429, "rate_limit_error")),
        (429, "ModelNotReadyException", "not ready", (529, "overloaded_error")),
        (503, "ServiceUnavailableException", "busy", (503, "overloaded_error")),
        (408, "ModelTimeoutException", "slow", (408, "timeout_error")),
        (424, "ModelErrorException", "failed", (500, "api_error")),
        (404, "ResourceNotFoundException", "unknown", (404, "not_found_error")),
        (400, "ValidationException", "invalid", (400, "invalid_request_error")),
        (500, "SomethingNewException", "new", (500, "api_error")),
    ],
)
def test_each_error_has_its_type_in_the_messages_api(
    status: int, named: str, message: str, translated: tuple[int, str]
) -> None:
    content = json.dumps({"message": message}).encode()
    found = errors.of_response(status, {"x-amzn-errortype": named}, content)

    assert (found.status, json.loads(found.content)["error"]["type"]) == translated
    assert json.loads(found.content)["error"]["message"] == message


def test_a_long_prompt_is_recognized_by_its_text() -> None:
    content = b'{"message":"Input is too long for requested model."}'
    found = errors.of_response(400, {"x-amzn-errortype": "ValidationException"}, content)

    assert "prompt is too long" in json.loads(found.content)["error"]["message"]


def test_the_response_of_something_in_between_is_left_as_it_is() -> None:
    assert errors.of_response(403, {}, b"<html>Blocked</html>").content == b"<html>Blocked</html>"
