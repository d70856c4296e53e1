"""The model API: the requests that the service sends, and how it handles the answers."""

import json
from typing import Any

import httpx
import pytest

from stand_in import StandIn, asking
from support.agent import MakeClient


async def chat(client: httpx.AsyncClient, message: str) -> dict[str, Any]:
    answer = await client.post("/chat", json={"message": message})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def last_event(client: httpx.AsyncClient, message: str) -> dict[str, Any]:
    answer = await client.post("/chat/stream", json={"message": message})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = json.loads(answer.text.strip().rsplit("data: ", 1)[1])
    return found


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("fault", [asking(fault=500, retry_after=0.01), asking(fault=529, retry_after=0.01)])
async def test_a_failed_call_is_retried_as_often_as_configured(
    make_client: MakeClient, stand_in: StandIn, retries: int, fault: str
) -> None:
    client = await make_client(model_max_retries=retries)
    assert (await client.post("/chat", json={"message": fault})).status_code in {502, 503}
    assert len(stand_in.requests()) == 1 + retries


async def test_an_invalid_request_is_not_retried(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client(model_max_retries=5)
    assert (await client.post("/chat", json={"message": asking(fault=400)})).status_code == 502
    assert len(stand_in.requests()) == 1


async def test_a_long_system_prompt_is_marked_for_the_cache_and_a_short_one_is_not(
    make_client: MakeClient, stand_in: StandIn
) -> None:
    """No model caches prompts of fewer than 1,024 tokens."""
    long = "Be kind. " * 600 + "Be brief."
    for prompt, marked in ((long, True), ("Be kind.", False)):
        client = await make_client(system_prompt=prompt)
        await chat(client, "hello")
        assert stand_in.last()["system"] == prompt
        assert stand_in.last()["cached"] is marked


async def test_tokens_written_to_and_read_from_the_cache_count_as_sent(make_client: MakeClient) -> None:
    client = await make_client()
    done = await last_event(client, asking("hello", cached=101))
    assert done["input_tokens"] == 2 + 101


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
async def test_a_prompt_too_long_for_the_model_is_422_and_suggests_a_new_conversation(
    make_client: MakeClient, stand_in: StandIn, path: str
) -> None:
    client = await make_client(model_max_retries=3)
    answer = await client.post(path, json={"message": asking(too_long=True)})
    assert answer.status_code == 422
    assert "start a new" in answer.json()["detail"]
    assert len(stand_in.requests()) == 1


@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded"])
async def test_a_truncated_answer_is_returned_with_its_stop_reason(make_client: MakeClient, reason: str) -> None:
    client = await make_client()
    assert (await chat(client, asking("hello", stop=reason)))["stop_reason"] == reason
    assert (await last_event(client, asking("hello", stop=reason)))["stop_reason"] == reason
    assert "stop_reason" not in await chat(client, "hello")


async def test_an_answer_that_arrives_in_single_bytes_with_crlf_line_ends_is_complete(make_client: MakeClient) -> None:
    client = await make_client()
    message = asking("grüße 😀", shattered=True, thinking=True)
    assert f'heard "{message}"' in (await chat(client, message))["response"]


async def test_calls_to_the_model_api_use_the_proxy_of_the_environment(
    make_client: MakeClient, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", stand_in.url)
    client = await make_client(anthropic_base_url="http://models.example")
    await chat(client, "hello")
    assert stand_in.last()["host"] == "models.example"


@pytest.mark.parametrize("no_proxy", ["10.0.0.0/8,127.0.0.0/8,.svc", "*", " 127.0.0.1 "])
async def test_hosts_in_no_proxy_are_called_directly(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    await chat(await make_client(), "hello")


@pytest.mark.parametrize("proxy", ["http://user:hunter2@127.0.0.1:1", "127.0.0.1:1\n"])
async def test_an_unreachable_proxy_is_named_in_the_error(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
    answer = await (await make_client()).post("/chat", json={"message": "hello"})
    assert answer.status_code == 503
    assert "the proxy (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY) cannot be reached" in answer.json()["detail"]
    assert "hunter2" not in answer.text


async def test_an_unsupported_kind_of_proxy_is_ignored_with_a_warning(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "socks5://user:hunter2@127.0.0.1:1")
    await chat(await make_client(), "hello")
    printed = capsys.readouterr()
    assert "HTTP_PROXY is not the address of an HTTP proxy" in printed.out + printed.err
    assert "hunter2" not in printed.out + printed.err


@pytest.mark.parametrize("end", ["/", "/v1", "/v1/", "/v1/messages"])
async def test_the_base_url_may_end_with_the_path_of_the_api(
    make_client: MakeClient, stand_in: StandIn, end: str
) -> None:
    client = await make_client(anthropic_base_url=f" {stand_in.url}{end}\n")
    await chat(client, "hello")


async def test_the_base_url_may_have_a_path_prefix(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client(anthropic_base_url=f"{stand_in.url}/gateway/")
    answer = await client.post("/chat", json={"message": "hello"})
    assert answer.status_code == 502
    assert "404" in answer.json()["detail"]
