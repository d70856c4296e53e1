"""The client keys of API_KEYS, and the ids of clients."""

import pytest

from agent_service.auth.identity import name_of, of_key, of_token, tenant_of
from agent_service.config.client_keys import ClientKey, client_keys, is_client_id

ONE = "client-key-one-0123456789"
TWO = "client-key-two-9876543210"


def test_a_list_of_keys_is_read_as_before() -> None:
    assert client_keys(f"{ONE},{TWO}\n{ONE}") == (ClientKey(ONE), ClientKey(TWO))


@pytest.mark.parametrize(
    "key", ["name:0123456789abcdef", ":0123456789abcdef", "0123456789abcdef=:", "1name-0123456789:"]
)
def test_a_key_may_contain_colons_and_equals_signs(key: str) -> None:
    assert client_keys(f"{key} {ONE}") == (ClientKey(key), ClientKey(ONE))


def test_an_entry_may_have_a_name_with_a_tenant() -> None:
    raw = f"web: {ONE}\n  acme/batch:\t{TWO},third-key-0123456789abc"
    assert client_keys(raw) == (
        ClientKey(ONE, "web"),
        ClientKey(TWO, "acme/batch"),
        ClientKey("third-key-0123456789abc"),
    )


def test_two_keys_with_one_name_are_one_client() -> None:
    old, new = (of_key(*entry) for entry in client_keys(f"web: {ONE}, web: {TWO}"))
    assert old == new
    assert old.id == "web"


def test_a_key_that_gets_a_name_can_keep_the_id_of_its_client() -> None:
    unnamed = of_key(*client_keys(ONE)[0])
    named = of_key(*client_keys(f"web={unnamed.id}: {ONE}")[0])
    assert (named.id, named.name) == (unnamed.id, "web")


def test_a_renamed_client_can_keep_its_id() -> None:
    renamed = of_key(*client_keys(f"acme/shop=web: {ONE}")[0])
    assert (renamed.id, renamed.name) == ("web", "acme/shop")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("", "does not contain a key"),
        ("web: short", "fewer than 16 characters"),
        ("web:", "ends with a name"),
        (f"web: shop: {ONE}", "a name without a key"),
        (f"web: {ONE}, shop: {ONE}", "a key twice"),
        (f"web: {ONE}, {ONE}", "a key twice"),
        (f"web=shop: {ONE}, web: {TWO}", "one name with two ids"),
        (f"web=shop: {ONE}, shop: {TWO}", "one id with two names"),
        (f"anyone: {ONE}", "a reserved name"),
        (f"abcdefabcdefabcd: {ONE}", "a reserved name"),
    ],
)
def test_entries_that_contradict_each_other_are_refused_without_showing_them(raw: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        client_keys(raw)
    assert not any(word in str(caught.value) for word in (ONE, TWO, "web", "shop"))


def test_the_same_user_of_another_issuer_or_tenant_is_another_client() -> None:
    one = of_token("https://a.example", "alice", "acme", forwards=False)
    assert one == of_token("https://a.example", "alice", "acme", forwards=False)
    others = [
        of_token("https://b.example", "alice", "acme", forwards=False),
        of_token("https://a.example", "alice", None, forwards=False),
        of_token("https://a.example", "acme/alice", None, forwards=False),
        of_key(ONE, "acme/alice", None),
    ]
    assert len({each.id for each in (one, *others)}) == 5


@pytest.mark.parametrize(
    ("client_id", "name", "tenant"),
    [
        (
            of_token("https://a.example", "alice@acme.example", "ac/me", forwards=False).id,
            "ac/me/alice@acme.example",
            "ac/me",
        ),
        (of_token("https://a.example", "a/b:c %", None, forwards=False).id, "a/b:c %", None),
        ("acme/web", "acme/web", "acme"),
        ("web", "web", None),
        ("9f86d081884c7d65", "9f86d081884c7d65", None),
        ("anyone", "anyone", None),
        ("10.0.0.1", "10.0.0.1", None),
        ("2001:db8::/64", "2001:db8::/64", None),
    ],
)
def test_the_name_and_the_tenant_are_in_an_id(client_id: str, name: str, tenant: str | None) -> None:
    assert (name_of(client_id), tenant_of(client_id)) == (name, tenant)


def test_the_ids_of_clients_can_be_approvers() -> None:
    token = of_token("https://a.example", "alice@acme.example", "acme", forwards=False).id
    assert all(map(is_client_id, ("web", "acme/web", "9f86d081884c7d65", token)))
    assert not any(map(is_client_id, ("", "a b", "acme/", "jwt:x:/", "web,shop", "\u00e4")))
