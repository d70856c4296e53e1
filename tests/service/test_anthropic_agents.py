"""The Messages API of other agents: with a runtime, without a model, behind a gateway, and with the protocol off."""

import json
from typing import Any

import httpx

from service.anthropic_agent import VERSION, body, tool
from stand_in import StandIn
from support.agent import MakeClient
from support.gateway import DELTA, HEAD, START, STOP, running_gateway, sse, text
from support.runtime import json_answer, running_runtime


async def ask(client: httpx.AsyncClient, message: object = "Hello", **more: Any) -> httpx.Response:
    return await client.post("/v1/messages", json=body(message, **more), headers=VERSION)


async def test_a_runtime_gets_the_history_and_refuses_what_it_cannot_take(make_client: MakeClient) -> None:
    with running_runtime(lambda _: json_answer({"response": "Hi"})) as runtime:
        client = await make_client(runtime_url=runtime.url, runtime_protocol="invocations", api_client_tools=True)
        messages = [
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "Two"},
            {"role": "user", "content": "Three"},
        ]
        answer = await ask(client, messages=messages)
        assert answer.json()["content"] == [{"type": "text", "text": "Hi"}]
        assert [each["content"] for each in runtime.asked[-1].body["messages"]] == ["One", "Two", "Three"]

        image = {"type": "image", "source": {"type": "url", "url": "https://pictures.example/cat.png"}}
        for refused in (await ask(client, [image]), await ask(client, tools=[tool("weather")])):
            assert refused.status_code == 400
            assert refused.json()["error"]["type"] == "invalid_request_error"

        counted = await client.post("/v1/messages/count_tokens", json=body("x" * 400), headers=VERSION)
        assert counted.json()["input_tokens"] >= 100


async def test_the_echo_agent_calls_a_tool_of_the_client_that_the_message_names(make_client: MakeClient) -> None:
    client = await make_client(model_provider="echo", api_client_tools=True)
    question = "get weather with city Bern"
    answer = (await ask(client, question, tools=[tool("get_weather")])).json()

    assert answer["stop_reason"] == "tool_use", answer
    use = answer["content"][-1]
    more = [
        {"role": "assistant", "content": answer["content"]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use["id"], "content": "sunny"}]},
    ]
    last = await ask(client, messages=[*body(question)["messages"], *more], tools=[tool("get_weather")])
    assert "get_weather answered: sunny" in last.json()["content"][0]["text"]


async def test_a_character_in_two_pieces_stays_whole(make_client: MakeClient) -> None:
    parts = [START, text("a\ud83d"), text("\ude00b\ud83d"), DELTA, STOP]
    with running_gateway(lambda _: HEAD + sse(*parts)) as gateway:
        client = await make_client(anthropic_base_url=gateway.url)
        streamed = (await ask(client, stream=True)).text
        whole = (await ask(client)).json()["content"]

    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: ")]
    pieces = [each["delta"]["text"] for each in events if each["type"] == "content_block_delta"]
    assert "".join(pieces) == "a😀b\N{REPLACEMENT CHARACTER}"
    assert whole == [{"type": "text", "text": "a😀b\N{REPLACEMENT CHARACTER}"}]


async def test_turns_are_counted_by_their_protocol(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client()
    await ask(client)

    samples = (await client.get("/metrics")).text
    assert 'agent_api_requests_total{api="anthropic",outcome="ok"} 1.0' in samples


async def test_the_protocol_can_be_turned_off(make_client: MakeClient) -> None:
    client = await make_client(api_anthropic=False)

    assert (await ask(client)).status_code == 404
