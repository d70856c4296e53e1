"""Agent cards of A2A 1.0 and 0.3: which interface is called."""

from typing import Any

import pytest

from agent_service.agent.errors import ModelError
from agent_service.runtime.a2a_card import JSONRPC, REST, Interface, choose


def entry(url: object, binding: object, version: object = "1.0", **more: object) -> dict[str, Any]:
    return {"url": url, "protocolBinding": binding, "protocolVersion": version, **more}


def card(*interfaces: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"name": "a", "supportedInterfaces": list(interfaces), **more}


def test_only_the_path_of_the_url_is_taken() -> None:
    found = choose(card(entry("https://agents.example:8443/a2a/weather?v=1", "JSONRPC")))
    assert found == Interface("/a2a/weather?v=1", JSONRPC)


@pytest.mark.parametrize("url", ["http://agent.example", "http://agent.example/"])
def test_a_url_without_a_path_is_the_root(url: str) -> None:
    assert choose(card(entry(url, "JSONRPC"))).path == "/"


def test_a_configured_path_replaces_that_of_the_card() -> None:
    assert choose(card(entry("http://agent.example/a", "JSONRPC")), path="/b").path == "/b"


def test_1_0_is_preferred_to_0_3_and_json_rpc_to_rest() -> None:
    old, new = entry("http://a/old", "JSONRPC", "0.3"), entry("http://a/new", "JSONRPC")
    rest = entry("http://a/rest", "HTTP+JSON")
    assert choose(card(old, rest, new)).path == "/new"
    assert choose(card(old, rest)) == Interface("/rest", REST)
    assert choose(card(entry("http://a/grpc", "GRPC"), old)) == Interface("/old", JSONRPC, legacy=True)


@pytest.mark.parametrize("version", ["0.3.0", "0.3", "0.2.6", None])
def test_a_card_of_0_3_has_its_interface_at_the_top(version: str | None) -> None:
    old = {"url": "http://a/rpc", "capabilities": {"streaming": True}}
    if version is not None:
        old["protocolVersion"] = version
    assert choose(old) == Interface("/rpc", JSONRPC, legacy=True, streaming=True)


def test_a_card_of_0_3_can_prefer_rest_and_offer_json_rpc_too() -> None:
    old: dict[str, Any] = {"url": "http://a/rest", "preferredTransport": "HTTP+JSON", "protocolVersion": "0.3.0"}
    assert choose(old) == Interface("/rest", REST, legacy=True)
    old["additionalInterfaces"] = [{"url": "http://a/rpc", "transport": "JSONRPC"}, {"url": 1}, "x"]
    assert choose(old) == Interface("/rpc", JSONRPC, legacy=True)


def test_a_card_for_clients_of_both_versions_is_called_by_the_newer() -> None:
    both = card(entry("http://a/new", "HTTP+JSON"), url="http://a/old", protocolVersion="0.3.0")
    assert choose(both) == Interface("/new", REST)


def test_the_tenant_is_kept() -> None:
    assert choose(card(entry("http://a/", "JSONRPC", tenant="blue"))).tenant == "blue"


@pytest.mark.parametrize("capabilities", [None, [], {"streaming": "yes"}, {"streaming": False}, {}])
def test_an_agent_streams_only_if_its_card_has_the_capability(capabilities: object) -> None:
    assert not choose(card(entry("http://a/", "JSONRPC"), capabilities=capabilities)).streaming


@pytest.mark.parametrize(
    "garbage",
    [
        None,
        "card",
        [],
        {},
        card(),
        card(entry("http://a/", "GRPC")),
        card(entry("http://a/", "JSONRPC", "2.0")),
        card(entry("http://a/", "JSONRPC", 1)),
        card(entry(None, "JSONRPC")),
        card(entry("http://a/", None)),
        {"supportedInterfaces": {"url": "http://a/"}},
        {"url": ["http://a/"]},
    ],
)
def test_a_card_without_a_usable_interface_is_an_error(garbage: object) -> None:
    with pytest.raises(ModelError, match="agent card"):
        choose(garbage)
