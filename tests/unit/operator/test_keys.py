"""`kubectl agent keys`: what becomes of the entries of a Secret. The service must read the result as meant."""

import pytest

from agent_operator.tools.errors import ToolError
from agent_operator.tools.keys.entries import Entry, added, entries, finished, renamed, revoked, rotated, written
from agent_service.auth.identity import of_key
from agent_service.config.client_keys import client_keys

ONE, TWO, NEW = "client-key-one-0123456789", "client-key-two-9876543210", "client-key-new-5555555555"
UNNAMED = of_key(ONE, None, None).id


@pytest.mark.parametrize(
    "text", [ONE, f"{ONE},{TWO}", f"web: {ONE}\nacme/batch: {TWO}", f"web={UNNAMED}: {ONE} shop=web2: {TWO}"]
)
def test_the_service_reads_the_same_entries(text: str) -> None:
    found = entries(text)
    assert [(each.key, each.name, each.former_id) for each in found] == [tuple(each) for each in client_keys(text)]
    assert [each.client_id for each in found] == [of_key(*each).id for each in client_keys(text)]
    assert entries(written(found)) == found


def test_a_rotation_adds_a_key_of_the_same_client_and_its_end_removes_the_earlier_ones() -> None:
    before = entries(f"acme/web={UNNAMED}: {ONE}, batch: {TWO}")
    both = rotated(before, "acme/web", NEW)
    ids = {each.key: of_key(*each).id for each in client_keys(written(both))}
    assert ids == {ONE: UNNAMED, NEW: UNNAMED, TWO: "batch"}
    assert written(finished(both, "acme/web")) == f"acme/web={UNNAMED}: {NEW}\nbatch: {TWO}\n"


def test_a_client_that_is_named_or_renamed_keeps_its_id() -> None:
    named = renamed(entries(ONE), UNNAMED, "web")
    assert named == [Entry(ONE, "web", UNNAMED)]
    again = renamed(named, "web", "shop")
    assert again == [Entry(ONE, "shop", UNNAMED)]
    assert renamed(renamed(entries(f"web: {ONE}"), "web", "shop"), "shop", "web") == [Entry(ONE, "web")]


def test_a_client_is_added_and_revoked() -> None:
    more = added(entries(f"web: {ONE}"), "acme/batch", TWO)
    assert [each.client for each in more] == ["web", "acme/batch"]
    assert revoked(more, "web") == [Entry(TWO, "acme/batch")]


@pytest.mark.parametrize("name", ["", "1web", "we b", "anyone", "abcdefabcdefabcd", "a/b/c", "web:", "-web"])
def test_names_that_the_service_refuses_are_refused(name: str) -> None:
    with pytest.raises(ToolError, match="cannot be the name of a client"):
        added(entries(ONE), name, NEW)


def test_changes_that_make_no_sense_are_refused_with_what_to_do() -> None:
    found = entries(f"web: {ONE}, {TWO}")
    with pytest.raises(ToolError, match="--rotate gives it a further key"):
        added(found, "web", NEW)
    with pytest.raises(ToolError, match="--rename"):
        rotated(found, of_key(TWO, None, None).id, NEW)
    with pytest.raises(ToolError, match="There is no client shop"):
        revoked(found, "shop")
    with pytest.raises(ToolError, match="Another client is called web"):
        renamed(found, of_key(TWO, None, None).id, "web")
    with pytest.raises(ToolError, match="is the only client"):
        revoked(entries(f"web: {ONE}, web: {TWO}"), "web")
    with pytest.raises(ToolError, match="a name without a key"):
        entries("web:")
