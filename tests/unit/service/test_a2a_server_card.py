"""The agent card that we publish, as the official SDK reads it, and as our own client of A2A does."""

import pytest
from a2a.client.card_resolver import parse_agent_card
from a2a.compat.v0_3.types import AgentCard as AgentCard03

from agent_service.agent.tools import Tool
from agent_service.compat.a2a.card import About, card
from agent_service.runtime.a2a_card import Interface, choose

ABOUT = About("clerk", "1.2.3", "Sorts letters.")
BASE = "https://agents.example"
WEIGH = Tool("weigh", "Weighs a letter.", {"type": "object"}, "scales", "weigh")


def test_the_official_sdk_reads_the_card() -> None:
    found = parse_agent_card(card(ABOUT, BASE, [WEIGH], needs_keys=False))

    assert (found.name, found.version, found.description) == ("clerk", "1.2.3", "Sorts letters.")
    assert [(each.url, each.protocol_binding, each.protocol_version) for each in found.supported_interfaces] == [
        (f"{BASE}/a2a", "JSONRPC", "1.0"),
        (f"{BASE}/a2a/v1", "HTTP+JSON", "1.0"),
        (f"{BASE}/a2a", "JSONRPC", "0.3"),
        (f"{BASE}/a2a/v1", "HTTP+JSON", "0.3"),
    ]
    assert found.capabilities.streaming
    assert not found.capabilities.push_notifications
    assert "image/png" in found.default_input_modes
    assert not found.security_schemes


def test_each_tool_is_a_skill_beside_chat() -> None:
    found = parse_agent_card(card(ABOUT, BASE, [WEIGH], needs_keys=False))

    assert [(each.id, each.description, list(each.tags)) for each in found.skills] == [
        ("chat", "Sorts letters.", ["chat"]),
        ("weigh", "Weighs a letter.", ["tool", "scales"]),
    ]


def test_a_long_description_of_a_tool_is_cut_and_an_empty_one_replaced() -> None:
    tools = [Tool("long", "x" * 5000, {}, "one", "long"), Tool("empty", " ", {}, "one", "empty")]

    _, long, empty = parse_agent_card(card(ABOUT, BASE, tools, needs_keys=False)).skills

    assert len(long.description) == 1000
    assert empty.description == "Calls the tool empty."


def test_a_card_without_a_description_still_has_one() -> None:
    assert parse_agent_card(card(About("agent", "1"), BASE, [], needs_keys=False)).description


def test_a_client_reads_both_ways_to_send_its_key() -> None:
    found = parse_agent_card(card(ABOUT, BASE, [], needs_keys=True))

    assert found.security_schemes["bearer"].http_auth_security_scheme.scheme == "bearer"
    assert found.security_schemes["header"].api_key_security_scheme.name == "X-API-Key"
    assert [list(each.schemes) for each in found.security_requirements] == [["bearer"], ["header"]]


@pytest.mark.parametrize("needs_keys", [False, True])
def test_it_is_a_card_of_version_0_3_as_well(needs_keys: bool) -> None:
    found = AgentCard03.model_validate(card(ABOUT, BASE, [WEIGH], needs_keys=needs_keys))

    assert (found.url, found.preferred_transport, found.protocol_version) == (f"{BASE}/a2a", "JSONRPC", "0.3")
    assert [skill.id for skill in found.skills] == ["chat", "weigh"]
    assert bool(found.security) is needs_keys


def test_our_own_client_of_a2a_chooses_json_rpc_of_1_0() -> None:
    assert choose(card(ABOUT, BASE, [], needs_keys=True)) == Interface("/a2a", streaming=True)
