"""The Messages API, by the official SDK: answers, streams, histories, content, the agent's tools, and counts."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from service.anthropic_agent import (
    AGENT,
    CLIENT_KEY,
    OTHER_KEY,
    TINY_PNG,
    Body,
    approve,
    asked,
    body,
    call,
    calling,
    post,
    sdk,
    tool,
)
from stand_in import StandIn, asking
from support.agent import Service
from support.eventually import eventually
from support.mcp_servers import McpServer
from testbed.paths import REPOSITORY

PDF = "JVBERi0xLjQKJcOkw7zDtsOfCg=="


@pytest.fixture(scope="module")
def desk_settings() -> dict[str, str]:
    return {"STREAM_HEARTBEAT_SECONDS": "0.2"}


@pytest.fixture
def client(desk: Service) -> Iterator[anthropic.Anthropic]:
    with sdk(desk) as made:
        yield made


def ask(client: anthropic.Anthropic, message: Any = "Hello", **more: Any) -> Any:
    return client.messages.create(**body(message, **more))


def text(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_an_answer_is_a_message_of_the_agent(client: anthropic.Anthropic, stand_in: StandIn) -> None:
    answer = ask(client, "Grüße 👋🏽", model="any-model")

    assert (answer.type, answer.role, answer.model, answer.stop_reason) == ("message", "assistant", AGENT, "end_turn")
    assert answer.id.startswith("msg_")
    assert 'heard "Grüße 👋🏽"' in text(answer)
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens == len(text(answer).split())
    assert answer._request_id
    assert stand_in.last()["model"] == "claude-sonnet-5-5"


def test_the_code_of_the_guide_runs(desk: Service, capsys: pytest.CaptureFixture[str]) -> None:
    guide = (REPOSITORY / "docs/how-to/clients/anthropic.md").read_text(encoding="utf-8")
    code = guide.split("```python\n")[1].split("```")[0]
    exec(code.replace("http://127.0.0.1:8000", desk.url).replace("the-client-key", CLIENT_KEY))  # noqa: S102

    first, second = capsys.readouterr().out.split("\n", 1)
    assert 'heard "Which orders are late?"' in first
    assert 'heard "Hello"' in second


def test_a_stream_accumulates_to_the_same_message(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**body("Grüße 👋🏽")) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_message()

    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 1
    assert text(answer) == text(ask(client, "Grüße 👋🏽"))
    assert answer.model == AGENT
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens == len(text(answer).split())


def test_the_instructions_of_the_client_follow_those_of_the_agent(
    client: anthropic.Anthropic, stand_in: StandIn
) -> None:
    ask(client, system="Answer in French.")
    assert stand_in.last()["system"] == "Be brief.\n\nAnswer in French."

    blocks = [{"type": "text", "text": each, "cache_control": {"type": "ephemeral"}} for each in ("One.", "Two.")]
    ask(client, system=blocks)
    assert stand_in.last()["system"] == "Be brief.\n\nOne.\n\nTwo."


def test_the_history_is_the_clients(client: anthropic.Anthropic, stand_in: StandIn) -> None:
    messages = [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": [{"type": "text", "text": "Hello Ada."}]},
        {"role": "user", "content": [{"type": "text", "text": "What is my name?"}]},
    ]
    ask(client, messages=messages)

    assert stand_in.last()["history"] == ["user: My name is Ada.", "assistant: Hello Ada."]
    assert stand_in.last()["message"] == "What is my name?"

    ask(client, "And now?")
    assert stand_in.last()["history"] == []


def test_images_and_documents_reach_the_model(client: anthropic.Anthropic, stand_in: StandIn) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    content: list[Body] = [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": TINY_PNG}, **mark},
        {"type": "image", "source": {"type": "url", "url": "https://pictures.example/cat.png"}},
        {"type": "document", "title": "A", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Notes."}, **mark},
        {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "Found."}]},
    ]
    ask(client, content)

    sent = asked(stand_in)["messages"][-1]["content"]
    assert [{name: value for name, value in block.items() if name != "cache_control"} for block in sent] == [
        {name: value for name, value in block.items() if name != "cache_control"} for block in content
    ]


@pytest.mark.parametrize("streamed", [False, True])
def test_the_agents_calls_are_blocks_of_the_answer_and_no_part_of_the_next_request(
    client: anthropic.Anthropic, stand_in: StandIn, *, streamed: bool
) -> None:
    question = calling([call("add", a=20, b=22)])
    answer: Any
    if streamed:
        with client.beta.messages.stream(**body(question)) as stream:
            answer = stream.get_final_message()
    else:
        answer = client.beta.messages.create(**body(question))

    first, use, result, last = answer.content
    assert (first.type, use.type, result.type, last.type) == ("text", "mcp_tool_use", "mcp_tool_result", "text")
    assert (use.name, use.server_name, use.input) == ("add", "shop", {"a": 20, "b": 22})
    assert (result.tool_use_id, result.is_error, result.content[0].text) == (use.id, False, "42")
    assert "Results: 42" in last.text
    assert answer.stop_reason == "end_turn"

    messages = [*body(question)["messages"], {"role": "assistant", "content": answer.content}]
    client.beta.messages.create(**{**body(), "messages": [*messages, {"role": "user", "content": "Thanks"}]})
    before = asked(stand_in)["messages"][-2]
    assert [block["type"] for block in before["content"]] == ["text", "text"]


def test_a_call_that_waits_pauses_the_answer_and_sending_it_back_goes_on(
    client: anthropic.Anthropic, desk: Service, server: McpServer, stand_in: StandIn
) -> None:
    question = calling([call("slow", duration=0, label="tea")])
    paused: Any = client.beta.messages.create(**body(question))
    assert paused.stop_reason == "pause_turn"
    use, notice = paused.content[-2:]
    assert (use.type, use.name) == ("mcp_tool_use", "slow")
    assert "Waiting for the approval of slow of shop" in notice.text

    messages = [*body(question)["messages"], {"role": "assistant", "content": paused.content}]
    again: Any = client.beta.messages.create(**{**body(), "messages": messages})
    assert again.stop_reason == "pause_turn"
    assert server.recorded() == []

    approve(desk, notice.text)
    assert server.recorded() == []

    with client.beta.messages.stream(**{**body(), "messages": messages}) as stream:
        rest: Any = stream.get_final_message()
    assert [each["label"] for each in server.recorded() if each["event"] == "finished"] == ["tea"]
    assert (rest.content[0].type, rest.content[0].tool_use_id) == ("mcp_tool_result", use.id)
    assert "slept tea" in rest.content[-1].text
    assert rest.stop_reason == "end_turn"

    with pytest.raises(anthropic.ConflictError, match="has gone on"):
        client.beta.messages.create(**{**body(), "messages": messages})
    messages += [{"role": "assistant", "content": rest.content}, {"role": "user", "content": "Thanks"}]
    client.beta.messages.create(**{**body(), "messages": messages})
    assert "Waiting for" not in json.dumps(asked(stand_in))


def test_a_paused_answer_goes_on_for_its_own_client_only(
    client: anthropic.Anthropic, desk: Service, server: McpServer
) -> None:
    question = body(calling([call("slow", duration=0, label="tea")]))
    paused: Any = client.beta.messages.create(**question)
    approve(desk, paused.content[-1].text)
    messages = [*question["messages"], {"role": "assistant", "content": paused.content}]

    with sdk(desk, key=OTHER_KEY) as other, pytest.raises(anthropic.NotFoundError):
        other.beta.messages.create(**{**question, "messages": messages})
    assert server.recorded() == []


def test_a_client_that_leaves_ends_the_work_of_the_model(client: anthropic.Anthropic, stand_in: StandIn) -> None:
    with client.messages.create(**body(asking("Hello", words=2000, slow=0.05)), stream=True) as events:
        assert next(iter(events)).type == "message_start"
        # A heartbeat may have begun the stream.
        eventually(lambda: len(stand_in.requests()) == 1, "the model is asked")

    eventually(lambda: stand_in.last()["state"] == "disconnected", "the model's work has ended")


def test_tokens_are_counted_by_the_model_with_the_agents_own_prompt_and_tools(
    client: anthropic.Anthropic, stand_in: StandIn
) -> None:
    given = body("one two three", system="Four.")
    del given["max_tokens"]
    counted = client.messages.count_tokens(**given)

    assert counted.input_tokens == len(["one", "two", "three", "Be", "brief.", "Four."])
    sent = json.loads(stand_in.checks()[-1]["body"])
    assert "add" in [each["name"] for each in sent["tools"]]
    assert stand_in.requests() == []


def test_a_fault_of_the_model_is_an_error_event_once_the_stream_has_started(client: anthropic.Anthropic) -> None:
    with (
        pytest.raises(anthropic.APIStatusError) as raised,
        client.messages.stream(**body(asking("Hello", error="overloaded_error", after=2))) as stream,
    ):
        stream.get_final_message()

    assert raised.value.body["error"]["type"] in {"overloaded_error", "api_error"}  # type: ignore[index]


def test_pings_keep_a_silent_stream_alive(desk: Service) -> None:
    raw = post(desk, body(asking("Hello", silent=3.0), stream=True)).text

    assert raw.count('event: ping\ndata: {"type":"ping"}\n\n') >= 2
    assert raw.index("message_start") < raw.index("event: ping") < raw.index("content_block_start")


def test_a_model_that_declines_is_a_stop_reason(client: anthropic.Anthropic) -> None:
    assert ask(client, asking("Hello", refusal=True)).stop_reason == "refusal"


def test_max_tokens_only_lowers_the_agents_own(client: anthropic.Anthropic, stand_in: StandIn) -> None:
    ask(client, max_tokens=7)
    assert stand_in.last()["max_tokens"] == 7
    with client.messages.stream(**body(max_tokens=10**6)) as stream:
        stream.until_done()
    assert 7 < stand_in.last()["max_tokens"] < 10**6


def test_an_answer_that_was_cut_has_its_stop_reason(client: anthropic.Anthropic) -> None:
    assert ask(client, asking("Hello", stop="max_tokens")).stop_reason == "max_tokens"


def test_tools_of_the_client_are_refused_with_an_explanation(client: anthropic.Anthropic, stand_in: StandIn) -> None:
    with pytest.raises(anthropic.BadRequestError, match="API_CLIENT_TOOLS"):
        ask(client, tools=[tool("weather", city="string")])
    assert stand_in.requests() == []
