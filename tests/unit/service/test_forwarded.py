"""Whose request it is behind trusted proxies, by `X-Forwarded-For` as proxies and liars write it."""

import ipaddress

import pytest

from agent_service.auth import network
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
        # What is no address names no client: the last proxy that is known counts.
        (["unknown"], "10.0.0.1"),
        (["_hidden, 10.0.0.6"], "10.0.0.6"),
        (["203.0.113.7, garbage"], "10.0.0.1"),
        (["203.0.113.7, garbage, 10.0.0.6"], "10.0.0.6"),
        (["203.0.113.0113"], "10.0.0.1"),
        (["1" * 5000], "10.0.0.1"),
        ([""], "10.0.0.1"),
        ([], "10.0.0.1"),
        # A client that is among the trusted addresses writes the left of it, and its proxy the right.
        (["10.9.9.1, 10.0.0.5"], "10.0.0.5"),
        (["10.9.9.2, 10.0.0.5"], "10.0.0.5"),
        # Of very many the nearest count.
        ([", ".join(["198.51.100.9", *["10.0.0.6"] * 4000])], "10.0.0.6"),
        ([", ".join([*["198.51.100.9"] * 4000, "203.0.113.7"])], "203.0.113.7"),
    ],
)
def test_the_rightmost_address_that_is_no_proxys_counts(values: list[str], client: str) -> None:
    assert str(forwarded_client(PEER, values, TRUSTED)) == client


def test_where_everyone_is_trusted_it_is_the_address_that_the_nearest_proxy_saw() -> None:
    anyone = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    for invented in range(5):
        assert str(forwarded_client(PEER, [f"198.51.100.{invented}, 203.0.113.7"], anyone)) == "203.0.113.7"


@pytest.mark.parametrize(
    "entry", ["", " ", "a", "1.2.3", "1.2.3.4.5", "[::1", "::1::", "1.2.3.4/8", "999.1.1.1", "\udcff"]
)
def test_what_is_no_address_is_none(entry: str) -> None:
    assert parse_hop(entry) in {None, ipaddress.ip_address("::1") if entry == "[::1" else None}


def test_the_addresses_of_one_ipv6_customer_are_one_client_and_not_those_of_the_next() -> None:
    customer = {network(f"2001:db8:1:1:{number:x}::{number:x}") for number in range(1, 50)}
    assert customer == {"2001:db8:1:1::/64"}
    assert network("2001:db8:1:2::1") not in customer
