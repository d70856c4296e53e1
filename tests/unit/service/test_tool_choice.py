"""Which tool the echo provider calls for a message, and with which arguments."""

from typing import Any

import pytest

from agent_service.agent.tool_choice import Choice, choose

TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}


def tool(name: str, description: str = "", /, **required: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": required, "required": list(required)}
    return {"name": name, "description": description, "input_schema": schema}


KUBERNETES = [
    tool("namespaces_list", "List all the Kubernetes namespaces in the current cluster"),
    tool("pods_delete", "Delete a Kubernetes Pod", name=TEXT),
    tool("pods_list", "List all the Kubernetes pods in the current cluster from all namespaces"),
    tool("pods_list_in_namespace", "List the pods in the specified namespace", namespace=TEXT),
    tool("pods_run", "Run a Kubernetes Pod", image=TEXT),
]


@pytest.mark.parametrize(
    ("message", "chosen"),
    [
        ("how many pods run in this namespace?", Choice("pods_list", {})),
        ("List the pods in namespace harbor.", Choice("pods_list_in_namespace", {"namespace": "harbor"})),
        ("which namespaces are there?", Choice("namespaces_list", {})),
        ("Delete the pod 'old one', please.", Choice("pods_delete", {"name": "old one"})),
        ("Delete the pod.", None),
        ("Is anybody in that pod?", None),
        ("Pods are nice.", None),
        ("What is this?", None),
        ("", None),
    ],
)
def test_every_word_of_a_tools_name_must_be_in_the_message_or_follow_from_a_question(
    message: str, chosen: Choice | None
) -> None:
    assert choose(message, KUBERNETES) == chosen


@pytest.mark.parametrize(
    ("message", "required", "given"),
    [
        ("What is the tide in Hamburg?", {"harbor": TEXT}, {"harbor": "Hamburg"}),
        ("Show the tide for harbor: hamburg", {"harbor": TEXT}, {"harbor": "hamburg"}),
        ('Show the tide for "Le Havre" on 3', {"day": WHOLE, "harbor": TEXT}, {"day": 3, "harbor": "Le Havre"}),
        ("Show the tide 2 and -3.5", {"a": WHOLE, "b": NUMBER}, {"a": 2, "b": -3.5}),
        ("Show the tide 2.5", {"a": WHOLE}, None),
        ("Show the low tide", {"kind": {"enum": ["high", "low"]}}, {"kind": "low"}),
        ("Show the tide", {"kind": {"enum": ["high", "low"]}}, None),
        ("Show the tide", {"kind": {"type": "string", "default": "high"}}, {"kind": "high"}),
        ("Show the tide in the harbor", {"harbor": TEXT}, None),
        ("Show the Tide", {"harbor": TEXT}, None),
        ("Show the tide in Hamburg", {"harbors": {"type": "array"}}, None),
        ("Show the tide in Hamburg", {"harbor": {"type": ["string", "null"]}}, None),
        ("Show the tide in Hamburg", {"harbor": {}}, None),
    ],
)
def test_arguments_come_from_the_message_and_a_tool_without_them_is_not_called(
    message: str, required: dict[str, Any], given: dict[str, Any] | None
) -> None:
    assert choose(message, [tool("tide", **required)]) == (None if given is None else Choice("tide", given))


def test_the_description_decides_between_tools_with_as_many_words() -> None:
    tools = [tool("list_cranes", "All of them."), tool("list_ships", "All ships, with the cranes that unload them.")]
    assert choose("Which ships and cranes unload?", tools) == Choice("list_ships", {})
    assert choose("Which ships and cranes?", [tools[0], tool("list_ships")]) == Choice("list_cranes", {})


def test_names_are_split_at_capitals_and_without_the_name_of_their_server() -> None:
    assert choose("count the ships", [tool("harbor__countShips")]) == Choice("harbor__countShips", {})


def test_tools_of_the_model_api_are_skipped() -> None:
    assert choose("do a web search", [{"type": "web_search_20250305", "name": "web_search"}]) is None
