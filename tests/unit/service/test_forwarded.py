"""The client of a request behind trusted proxies, from `X-Forwarded-For` as proxies and spoofers write it."""

import ipaddress

import pytest

from agent_service.auth.clients import network
from agent_service.middleware.identify import forwarded_client, parse_hop

PEER = ipaddress.ip_address("10.0.0.1")
TRUSTED = [ipaddress.ip_network(each) for each in ("10.0.0.0/8", "2001:db8:ffff::/48")]


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["198.51.100.9, 203.0.113.7"], "203.0.113.7"),
        (["198.51.100.9", "203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7", "198.51.100.9"], "198.51.100.9"),
        (["203.0.113.7, 10.0.0.6, 10.0.0.5"], "203.0.113.7"),
        (["203.0.113.7, 2001:db8:ffff::5"], "203.0.113.7"),
        # With ports, as Azure's gateways write them.
        (["203.0.113.7:51234"], "203.0.113.7"),
        (["203.0.113.7:51234, 10.0.0.6:3000"], "203.0.113.7"),
        (["[2001:db8::1]:443"], "2001:db8::1"),
        (['"[2001:db8::1]:443"'], "2001:db8::1"),
        (["2001:db8::1"], "2001:db8::1"),
        (["[2001:db8::1]"], "2001:db8::1"),
        (["fe80::1%eth0"], "fe80::1"),
        (["::ffff:203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7, ::ffff:10.0.0.6"], "203.0.113.7"),
        # Empty entries are skipped.
        (["203.0.113.7,,10.0.0.6"], "203.0.113.7"),
        (["203.0.113.7, "], "203.0.113.7"),
        # An invalid address identifies no client: the last known proxy counts.
        (["unknown"], "10.0.0.1"),
        (["_hidden, 10.0.0.6"], "10.0.0.6"),
        (["203.0.113.7, garbage"], "10.0.0.1"),
        (["203.0.113.7, garbage, 10.0.0.6"], "10.0.0.6"),
        (["203.0.113.0113"], "10.0.0.1"),
        (["1" * 5000], "10.0.0.1"),
        ([""], "10.0.0.1"),
        ([], "10.0.0.1"),
        # A client in the trusted range writes the entry before it, and its proxy the one after it.
        (["10.9.9.1, 10.0.0.5"], "10.0.0.5"),
        (["10.9.9.2, 10.0.0.5"], "10.0.0.5"),
        # Of very many entries the nearest count.
        ([", ".join(["198.51.100.9", *["10.0.0.6"] * 4000])], "10.0.0.6"),
        ([", ".join([*["198.51.100.9"] * 4000, "203.0.113.7"])], "203.0.113.7"),
    ],
)
def test_the_rightmost_untrusted_address_counts(values: list[str], client: str) -> None:
    assert str(forwarded_client(PEER, values, TRUSTED)) == client


def test_if_all_addresses_are_trusted_the_client_is_the_peer_of_the_nearest_proxy() -> None:
    anyone = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    for invented in range(5):
        assert str(forwarded_client(PEER, [f"198.51.100.{invented}, 203.0.113.7"], anyone)) == "203.0.113.7"


@pytest.mark.parametrize(
    "entry", ["", " ", "a", "1.2.3", "1.2.3.4.5", "[::1", "::1::", "1.2.3.4/8", "999.1.1.1", "\udcff"]
)
def test_an_invalid_address_is_ignored(entry: str) -> None:
    assert parse_hop(entry) in {None, ipaddress.ip_address("::1") if entry == "[::1" else None}


def test_the_addresses_of_one_ipv6_customer_are_one_client_separate_from_the_next_customer() -> None:
    customer = {network(f"2001:db8:1:1:{number:x}::{number:x}") for number in range(1, 50)}
    assert customer == {"2001:db8:1:1::/64"}
    assert network("2001:db8:1:2::1") not in customer
