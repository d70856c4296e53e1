"""Generated client keys: created once, kept, and rotated when the user requests it."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import AgentSpec
from agent_operator.controller.reconcile.client_keys import settled
from agent_operator.manifests.client_keys import KEYS, client_keys

Document = dict[str, Any]


def wanted() -> Document:
    spec = AgentSpec.model_validate({"agent": {"provider": "echo"}, "auth": {"enabled": True}})
    document = client_keys(AgentDeployment("hello", "prod", spec))
    assert document is not None
    return document


def keys(document: Document) -> list[str]:
    found: list[str] = document["stringData"][KEYS].split(",")
    return found


def test_the_first_reconcile_generates_one_key_and_later_ones_keep_it() -> None:
    first = settled(wanted(), None, "", lambda: "one")
    again = settled(wanted(), first, "", lambda: "two")

    assert keys(first) == ["one"]
    assert again == first


def test_a_request_prepends_a_new_key_and_the_next_request_drops_the_old_one() -> None:
    first = settled(wanted(), None, "", lambda: "one")
    second = settled(wanted(), first, "monday", lambda: "two")
    same = settled(wanted(), second, "monday", lambda: "three")
    third = settled(wanted(), same, "tuesday", lambda: "three")

    assert keys(second) == ["two", "one"]
    assert same == second
    assert keys(third) == ["three", "two"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["", "a", "b"]), max_size=6))
def test_a_repeated_or_withdrawn_request_changes_nothing(requests: list[str]) -> None:
    number = iter(range(100))
    document = settled(wanted(), None, "", lambda: f"key-{next(number)}")
    for request in requests:
        document = settled(wanted(), document, request, lambda: f"key-{next(number)}")
        assert settled(wanted(), document, request, lambda: "never") == document
        assert settled(wanted(), document, "", lambda: "never") == document
        assert len(keys(document)) <= 2


def test_an_emptied_secret_gets_a_new_key() -> None:
    emptied = {**wanted(), "stringData": {}}

    assert keys(settled(wanted(), emptied, "", lambda: "new")) == ["new"]
