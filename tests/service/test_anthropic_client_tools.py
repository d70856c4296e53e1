"""Tools that clients of the Messages API run themselves, beside those of the agent or without any."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from service.anthropic_agent import Body, asked, body, call, calling, post, running_desk, sdk, tool
from stand_in import StandIn
from support.agent import Service
from support.mcp_servers import McpServer
from support.redis_server import RedisServer

WEATHER = tool("weather", city="string")
TIME = tool("time")


@pytest.fixture(scope="module")
def desk_settings() -> dict[str, str]:
    return {"API_CLIENT_TOOLS": "true"}


@pytest.fixture(scope="module")
def bare_process(
    stand_in_process: StandIn, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("bare")
    with running_desk(folder, stand_in_process, redis_process, API_CLIENT_TOOLS="true") as service:
        yield service


@pytest.fixture
def client(desk: Service) -> Iterator[anthropic.Anthropic]:
    with sdk(desk) as made:
        yield made


def test_a_call_of_the_clients_tool_ends_the_answer(client: anthropic.Anthropic, stand_in: StandIn) -> None:
    question = body(calling([call("weather", city="Bern")]), tools=[WEATHER])
    answer = client.messages.create(**question)

    said, use = answer.content
    assert answer.stop_reason == "tool_use"
    assert said.type == "text"
    assert use.type == "tool_use"
    assert (use.name, use.input) == ("weather", {"city": "Bern"})
    assert len(stand_in.requests()) == 1

    with client.messages.stream(**question) as stream:
        streamed = stream.get_final_message()
    assert streamed.stop_reason == "tool_use"
    assert [block.type for block in streamed.content] == ["text", "tool_use"]
    assert streamed.content[1].input == {"city": "Bern"}  # type: ignore[union-attr]


def test_the_result_of_the_client_goes_to_the_model(client: anthropic.Anthropic, stand_in: StandIn) -> None:
    question = body(calling([call("weather", city="Bern")]), tools=[WEATHER])
    answer = client.messages.create(**question)
    use: Any = answer.content[-1]
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
    messages = [
        *question["messages"],
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [{"type": "text", "text": "Quickly!"}, result]},
    ]
    last: Any = client.messages.create(**{**question, "messages": messages})

    assert "Results: sunny" in last.content[-1].text
    sent = asked(stand_in)["messages"]
    assert [block["type"] for block in sent[-1]["content"]] == ["tool_result", "text"]
    assert sent[-1]["content"][0]["content"] == [{"type": "text", "text": "sunny"}]
    assert sent[-2]["content"][-1]["id"] == use.id


def test_the_tool_runner_of_the_sdk_runs_the_clients_functions(
    client: anthropic.Anthropic, server: McpServer, stand_in: StandIn
) -> None:
    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Return the weather in a city.

        Args:
            city: its name.
        """
        return f"sunny in {city}"

    question = calling([call("weather", city="Bern")], [call("add", a=1, b=2)])
    runner = client.beta.messages.tool_runner(tools=[weather], **body(question))
    messages: list[Any] = list(runner)

    assert [message.stop_reason for message in messages] == ["tool_use", "end_turn"]
    assert [block.type for block in messages[1].content] == ["text", "mcp_tool_use", "mcp_tool_result", "text"]
    assert "Results: 3" in messages[1].content[-1].text
    assert "sunny in Bern" in stand_in.requests()[1]["body"]
    assert [each["tool"] for each in server.recorded()] == ["add"]


def test_of_a_mixed_step_only_the_clients_calls_are_made(client: anthropic.Anthropic, server: McpServer) -> None:
    steps = calling([call("add", a=1, b=2), call("weather", city="Bern"), call("slow", duration=0, label="tea")])
    answer = client.messages.create(**body(steps, tools=[WEATHER]))

    assert [block.name for block in answer.content if block.type == "tool_use"] == ["weather"]
    assert answer.stop_reason == "tool_use"
    assert server.recorded() == []


def test_calls_with_an_input_that_is_no_object_go_back_to_the_model(
    client: anthropic.Anthropic, stand_in: StandIn
) -> None:
    answer: Any = client.messages.create(**body(calling([{"name": "weather", "raw": "[1"}]), tools=[WEATHER]))

    assert answer.stop_reason == "end_turn"
    assert "is not a JSON object" in answer.content[-1].text
    assert len(stand_in.requests()) == 2


@pytest.mark.parametrize(
    "choice",
    [{"type": "any"}, {"type": "tool", "name": "weather"}, {"type": "auto", "disable_parallel_tool_use": True}],
)
def test_the_choice_among_tools_is_passed_on(client: anthropic.Anthropic, stand_in: StandIn, choice: Body) -> None:
    client.messages.create(**body("Hello", tools=[WEATHER], tool_choice=choice))
    assert asked(stand_in)["tool_choice"] == choice


def test_the_definitions_reach_the_model_without_marks_for_the_cache(
    client: anthropic.Anthropic, stand_in: StandIn
) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    messages = [{"role": role, "content": [{"type": "text", "text": "Hi", **mark}]} for role in ("user", "assistant")]
    given = {
        "tools": [{**WEATHER, **mark, "eager_input_streaming": True}, {"type": "bash_20250124", "name": "bash"}],
        "system": [{"type": "text", "text": "x" * 5000, **mark}],
        "messages": [*messages, *body()["messages"]],
    }
    client.messages.create(**{**body(), **given})

    sent = asked(stand_in)
    assert WEATHER in sent["tools"]
    assert {"type": "bash_20250124", "name": "bash"} in sent["tools"]
    assert str(sent).count("cache_control") <= 4


def test_a_tool_with_deferred_loading_is_offered_once_the_conversation_refers_to_it(
    client: anthropic.Anthropic, stand_in: StandIn
) -> None:
    question = body("Hello", tools=[TIME, {**WEATHER, "defer_loading": True}])
    client.messages.create(**question)
    assert "weather" not in [each["name"] for each in asked(stand_in)["tools"]]

    use = {"type": "tool_use", "id": "toolu_1", "name": "time", "input": {}}
    found = {"type": "tool_reference", "tool_name": "weather"}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [found]}
    more = [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    client.messages.create(**{**question, "messages": [*question["messages"], *more]})
    assert "weather" in [each["name"] for each in asked(stand_in)["tools"]]


def test_tools_can_come_and_go_in_messages_of_the_system(client: anthropic.Anthropic, stand_in: StandIn) -> None:
    definition = {"type": "tool_definition", "definition": WEATHER}
    changes = [
        {"type": "text", "text": "From now on, rhyme."},
        {"type": "tool_addition", "tool": definition},
        {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "time"}},
    ]
    question = body("Hello", tools=[TIME])
    question["messages"].append({"role": "system", "content": changes})
    client.messages.create(**question)

    names = [each["name"] for each in asked(stand_in)["tools"]]
    assert "weather" in names
    assert "time" not in names
    assert stand_in.last()["system"] == "Be brief.\n\nFrom now on, rhyme."


REFUSED = {
    "a tool with the name of the agent's": ([tool("add")], "'add' itself"),
    "two tools of one name": ([WEATHER, WEATHER], "tools.1.name"),
    "a tool that the model API runs": ([{"type": "web_search_20250305", "name": "web_search"}], "web_search_20250305"),
    "a tool that needs a beta": ([{"type": "computer_20250124", "name": "computer"}], "computer_20250124"),
    "a tool without a schema": ([{"name": "x"}], "tools.0.input_schema"),
    "a name with a space": ([tool("a b")], "tools.0.name"),
    "a number": ([1], "tools.0: must be an object"),
}


@pytest.mark.parametrize(("tools", "field"), REFUSED.values(), ids=REFUSED)
def test_tools_that_cannot_be_passed_on_are_refused(
    client: anthropic.Anthropic, stand_in: StandIn, tools: Any, field: str
) -> None:
    with pytest.raises(anthropic.BadRequestError) as raised:
        client.messages.create(**body("Hello", tools=tools))

    assert field in raised.value.body["error"]["message"]  # type: ignore[index]
    assert stand_in.requests() == []


def test_an_agent_without_tools_of_its_own_hands_calls_over_too(
    bare_process: Service, stand_in: StandIn, redis_server: RedisServer
) -> None:
    question = body(calling([call("weather", city="Bern")]), tools=[WEATHER])
    first = post(bare_process, question).json()
    assert first["stop_reason"] == "tool_use"
    use = first["content"][-1]
    assert (use["type"], use["input"]) == ("tool_use", {"city": "Bern"})

    result = {"type": "tool_result", "tool_use_id": use["id"], "content": [{"type": "text", "text": "rain"}]}
    more = [{"role": "assistant", "content": first["content"]}, {"role": "user", "content": [result]}]
    last = post(bare_process, {**question, "messages": [*question["messages"], *more]}).json()
    assert "Results: rain" in last["content"][-1]["text"]

    counted = post(bare_process, {**question, "max_tokens": 1}, "/v1/messages/count_tokens")
    assert counted.json()["input_tokens"] > 0
