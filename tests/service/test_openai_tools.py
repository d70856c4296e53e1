"""Tools in OpenAI's protocol: the agent's own, those that need an approval, and those of the client."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from service.approvals import PLAIN, TEA, calling, calls
from service.openai_clients import WEATHER, assistant, official, user
from stand_in import StandIn, asking
from support.agent import KEY, Service, running_service
from support.mcp_servers import McpServer
from support.redis_server import RedisServer

FUNCTION = {"name": "weather", "description": "The weather of a city.", "parameters": WEATHER}
OF_CHAT: Any = {"type": "function", "function": FUNCTION}
OF_RESPONSES: Any = {"type": "function", **FUNCTION}
RAIN = {"name": "weather", "input": {"city": "Köln"}}
FAILING = {"name": "add", "input": {"a": "no number"}}


@pytest.fixture(scope="module")
def shop_process(
    server_process: McpServer,
    stand_in_process: StandIn,
    redis_process: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """Run an agent with a tool `slow` that needs an approval, which also takes the tools of its clients."""
    folder = tmp_path_factory.mktemp("shop")
    file = folder / "tools.json"
    tools = [{"name": "shop", "mcp": {"url": server_process.url}, "approve": ["sl*"]}]
    file.write_text(json.dumps({"tools": tools}), encoding="utf-8")
    with running_service(
        folder,
        ANTHROPIC_API_KEY=KEY,
        ANTHROPIC_BASE_URL=stand_in_process.url,
        REDIS_URL=redis_process.url,
        TOOLS_FILE=str(file),
        RATE_LIMIT_REQUESTS="0",
        API_CLIENT_TOOLS="true",
    ) as running:
        yield running


@pytest.fixture
def shop(shop_process: Service, server: McpServer, stand_in: StandIn, redis_server: RedisServer) -> Service:
    return shop_process


@pytest.fixture
def sdk(shop: Service) -> Iterator[openai.OpenAI]:
    with official(shop.url) as client:
        yield client


def chat(sdk: openai.OpenAI, *messages: Any, **options: Any) -> Any:
    return sdk.chat.completions.create(model="any", messages=list(messages), **options)


def respond(sdk: openai.OpenAI, given: Any, **options: Any) -> Any:
    return sdk.responses.create(model="any", input=given, **options)


def ended(answer: Any, *, stream: bool) -> Any:
    """Return the response of an answer that may be streamed."""
    if not stream:
        return answer
    events = list(answer)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return events[-1].response


def test_the_agents_calls_are_in_an_extension_of_a_completion(sdk: openai.OpenAI) -> None:
    answer = chat(sdk, user(calling([PLAIN])))
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.tool_calls is None
    (step,) = answer.portside["steps"]
    assert (step["name"], step["input"], step["is_error"], step["content"]) == ("add", PLAIN["input"], False, "3")


def test_the_agents_calls_are_in_an_extension_of_chunks(sdk: openai.OpenAI) -> None:
    chunks = list(chat(sdk, user(calling([PLAIN])), stream=True))
    call, result = (chunk.portside for chunk in chunks if getattr(chunk, "portside", None))
    assert (call["type"], call["name"], call["input"]) == ("tool_use", "add", PLAIN["input"])
    assert (result["type"], result["id"], result["content"]) == ("tool_result", call["id"], "3")
    assert all(chunk.choices[0].delta.tool_calls is None for chunk in chunks)
    with sdk.chat.completions.stream(model="any", messages=[user(calling([PLAIN]))]) as stream:
        assert "3" in str(stream.get_final_completion().choices[0].message.content)


@pytest.mark.parametrize("stream", [False, True])
def test_the_agents_calls_are_mcp_calls_of_a_response(sdk: openai.OpenAI, *, stream: bool) -> None:
    answer = ended(respond(sdk, calling([PLAIN, FAILING]), stream=stream), stream=stream)
    before, plain, failing, after = answer.output
    assert (plain.type, plain.name, plain.server_label, plain.status) == ("mcp_call", "add", "shop", "completed")
    assert (json.loads(plain.arguments), plain.output, plain.error) == (PLAIN["input"], "3", None)
    assert (failing.status, failing.output) == ("failed", None)
    assert failing.error.type == "mcp_tool_execution_error"
    assert before.content[0].text + after.content[0].text == answer.output_text


def test_the_events_of_a_call_lead_to_its_item(sdk: openai.OpenAI) -> None:
    events = respond(sdk, calling([PLAIN]), stream=True)
    kinds = [event.type for event in events if getattr(event, "output_index", None) == 1]
    assert kinds == [
        "response.output_item.added",
        "response.mcp_call.in_progress",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.mcp_call.completed",
        "response.output_item.done",
    ]
    with sdk.responses.stream(model="any", input=calling([PLAIN])) as stream:
        assert [item.type for item in stream.get_final_response().output] == ["message", "mcp_call", "message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("by", ["our own api", "a message"])
def test_a_chat_that_waits_for_an_approval_says_so_and_goes_on(
    sdk: openai.OpenAI, shop: Service, server: McpServer, stand_in: StandIn, *, by: str, stream: bool
) -> None:
    question = user(calling([TEA]))
    answer = chat(sdk, question, stream=stream)
    if stream:
        chunks = list(answer)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        last = chunks[-1]
    else:
        text, last = answer.choices[0].message.content, answer
    assert last.choices[0].finish_reason == "stop"
    waits = last.portside
    assert waits["status"] == "input_required"
    (call,) = waits["approvals"]
    path = f"/chat/{waits['conversation_id']}/approvals"
    assert waits["conversation_id"] in text
    assert call["id"] in text
    assert calls(server) == []

    decided = shop.post(path, id=call["id"], approve=True)
    assert decided.json()["status"] == "decided", decided.text
    if by == "a message":
        rest = chat(sdk, question, assistant(text), user("Go on.")).choices[0].message.content
    else:
        rest = shop.post(path, id=call["id"]).json()["response"]
    assert "slept tea" in rest
    assert calls(server) == ["tea"]

    chat(sdk, question, assistant(text + rest), user("Thanks."))
    chat(sdk, question, assistant(text), user("Thanks."))
    assert "Waiting for" not in json.loads(stand_in.last()["body"])["messages"][1]["content"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("store", [True, False])
def test_a_response_that_waits_goes_on_with_the_decision(
    sdk: openai.OpenAI, server: McpServer, *, store: bool, stream: bool
) -> None:
    message = calling([PLAIN, TEA])
    asked = ended(respond(sdk, message, stream=stream, store=store), stream=stream)
    *_, request = asked.output
    assert (request.type, request.name, request.server_label) == ("mcp_approval_request", "slow", "shop")
    assert json.loads(request.arguments) == TEA["input"]
    assert asked.status == "completed"
    assert calls(server) == ["add"]

    decision = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
    given = [decision] if store else [user(message), *(item.model_dump() for item in asked.output), decision]
    previous = {"previous_response_id": asked.id} if store else {"store": False}
    answer = ended(respond(sdk, given, stream=stream, **previous), stream=stream)
    assert calls(server) == ["add", "tea"]
    call = next(item for item in answer.output if item.type == "mcp_call")
    assert (call.name, call.status, json.loads(call.arguments)) == ("slow", "completed", TEA["input"])
    assert "slept tea" in answer.output_text


def test_the_conversation_goes_on_after_an_approval(sdk: openai.OpenAI, stand_in: StandIn) -> None:
    asked = respond(sdk, calling([TEA]))
    decision = {"type": "mcp_approval_response", "approval_request_id": asked.output[-1].id, "approve": True}
    answer = respond(sdk, [decision], previous_response_id=asked.id)
    respond(sdk, "and now?", previous_response_id=answer.id)
    messages = json.loads(stand_in.last()["body"])["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant", "user"]


def test_the_model_learns_that_a_call_was_rejected_and_why(sdk: openai.OpenAI, server: McpServer) -> None:
    asked = respond(sdk, calling([TEA]))
    decision = {"type": "mcp_approval_response", "approval_request_id": asked.output[-1].id, "approve": False}
    answer = respond(sdk, [decision | {"reason": "Too expensive."}], previous_response_id=asked.id)
    assert "Too expensive." in answer.output_text
    assert next(item for item in answer.output if item.type == "mcp_call").status == "failed"
    assert calls(server) == []
    with pytest.raises(openai.ConflictError):
        respond(sdk, [decision], previous_response_id=asked.id)


def test_a_decision_leaves_no_room_for_a_message(sdk: openai.OpenAI, server: McpServer) -> None:
    asked = respond(sdk, calling([TEA]))
    decision = {"type": "mcp_approval_response", "approval_request_id": asked.output[-1].id, "approve": True}
    with pytest.raises(openai.BadRequestError) as raised:
        respond(sdk, [decision, user("and quickly")], previous_response_id=asked.id)
    assert raised.value.param == "input[1]"
    assert calls(server) == []


@pytest.mark.parametrize("stream", [False, True])
def test_the_clients_calls_end_a_chat_and_their_results_go_on(
    sdk: openai.OpenAI, stand_in: StandIn, *, stream: bool
) -> None:
    question = user(calling([RAIN, RAIN]))
    if stream:
        with sdk.chat.completions.stream(model="any", messages=[question], tools=[OF_CHAT]) as events:
            answer: Any = events.get_final_completion()
    else:
        answer = chat(sdk, question, tools=[OF_CHAT])
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    one, two = choice.message.tool_calls
    assert (one.function.name, json.loads(one.function.arguments)) == ("weather", RAIN["input"])
    assert one.id != two.id
    sent = json.loads(stand_in.last()["body"])
    assert {"name": "weather", "description": FUNCTION["description"], "input_schema": WEATHER} in sent["tools"]

    again = assistant(choice.message.content, tool_calls=[call.model_dump() for call in (one, two)])
    results = [{"role": "tool", "tool_call_id": call.id, "content": "wet"} for call in (one, two)]
    rest = chat(sdk, question, again, *results, tools=[OF_CHAT])
    assert rest.choices[0].finish_reason == "stop"
    assert "wet" in rest.choices[0].message.content
    *_, calling_message, last = json.loads(stand_in.last()["body"])["messages"]
    assert [block["type"] for block in calling_message["content"]][-2:] == ["tool_use", "tool_use"]
    assert [block["tool_use_id"] for block in last["content"]] == [one.id, two.id]


@pytest.mark.parametrize("stream", [False, True])
def test_the_clients_calls_end_a_response_and_their_results_go_on(sdk: openai.OpenAI, *, stream: bool) -> None:
    question = user(calling([RAIN]))
    answer = ended(respond(sdk, [question], tools=[OF_RESPONSES], stream=stream), stream=stream)
    call = answer.output[-1]
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weather", RAIN["input"])

    result = {"type": "function_call_output", "call_id": call.call_id, "output": "wet"}
    given = [question, *(item.model_dump() for item in answer.output), result]
    rest = ended(respond(sdk, given, tools=[OF_RESPONSES], stream=stream), stream=stream)
    assert "wet" in rest.output_text


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"type": "auto"}),
        ("required", {"type": "any"}),
        ("none", {"type": "none"}),
        ({"type": "function", "function": {"name": "weather"}}, {"type": "tool", "name": "weather"}),
    ],
)
def test_the_choice_of_a_tool_reaches_the_model(
    sdk: openai.OpenAI, stand_in: StandIn, choice: Any, expected: dict[str, str]
) -> None:
    chat(sdk, user("hello"), tools=[OF_CHAT], tool_choice=choice)
    assert json.loads(stand_in.last()["body"])["tool_choice"] == expected


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([user("a"), assistant(None, tool_calls=[{"id": "c", "function": {"name": "f", "arguments": "["}}])], None),
        (
            [user("a"), assistant(None, tool_calls=[{"id": "c", "function": {"name": "f", "arguments": "{}"}}])],
            "messages",
        ),
        ([user("a"), {"role": "tool", "tool_call_id": "c", "content": "b"}], "messages[1]"),
    ],
)
def test_calls_and_results_that_do_not_belong_together_are_refused(
    sdk: openai.OpenAI, stand_in: StandIn, messages: list[Any], param: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        chat(sdk, *messages, tools=[OF_CHAT])
    assert raised.value.param == (param or "messages[1].tool_calls[0].function.arguments")
    assert stand_in.requests() == []


def test_a_tool_with_the_name_of_one_of_the_agents_is_refused(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        chat(sdk, user("hello"), tools=[{"type": "function", "function": {**FUNCTION, "name": "add"}}])
    assert chat(sdk, user(asking("hello"))).choices[0].finish_reason == "stop"


def test_an_unknown_approval_is_an_error(sdk: openai.OpenAI) -> None:
    name = f"mcpr_{'0' * 40}_01890000-0000-7000-8000-000000000000.1"
    with pytest.raises(openai.NotFoundError):
        respond(sdk, [{"type": "mcp_approval_response", "approval_request_id": name, "approve": True}])
