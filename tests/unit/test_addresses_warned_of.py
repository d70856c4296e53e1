"""The tools warn of addresses with which the service would not start, by the same rules as the service."""

from pathlib import Path
from typing import Any

import pytest

import agent_operator.api.addresses as of_operator
import agent_service.network.addresses as of_service
from agent_operator.api.spec import AgentSpec
from agent_operator.tools.lint import advice


def warned(spec: dict[str, Any]) -> dict[str, str]:
    full = {"apiKey": {"secretName": "key"}, **spec}
    return {fault.field: fault.message for fault in advice(AgentSpec.model_validate(full))}


def test_service_and_tools_have_the_same_rules() -> None:
    ours, theirs = (Path(str(module.__file__)).read_text() for module in (of_service, of_operator))
    assert ours == theirs


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("https://gw.example/v1", "appends /v1 itself"),
        ("https://gw.example/v1/messages", "appends /v1/messages itself"),
        ("https://gw.example/a?x=1", "would not start"),
        ("https://gw.example/#a", "would not start"),
        ("https://gw.example:99999", "would not start"),
        ("https://a..b", "would not start"),
        ("https://[::1", "would not start"),
    ],
)
def test_an_invalid_address_of_the_model_api_has_a_warning(address: str, words: str) -> None:
    assert words in warned({"agent": {"provider": "anthropic", "baseUrl": address}})["spec.agent.baseUrl"]


@pytest.mark.parametrize(
    "address", ["redis://redis/prod", "redis://redis?db=x", "redis://redis?max_connections=1", "redis://redis:0/0"]
)
def test_an_invalid_address_of_redis_has_a_warning(address: str) -> None:
    assert "would not start" in warned({"redis": {"url": address}})["spec.redis.url"]


def test_an_invalid_address_of_the_collector_has_a_warning() -> None:
    warnings = warned({"monitoring": {"tracing": {"endpoint": "http://collector:4318/v1/traces?x=1"}}})
    assert "no traces" in warnings["spec.monitoring.tracing.endpoint"]


def test_valid_addresses_have_no_warning() -> None:
    spec = {
        "agent": {"provider": "anthropic", "baseUrl": "https://gw.example/anthropic/"},
        "redis": {"url": "rediss://redis.svc:6380/2?ssl_cert_reqs=none"},
        "monitoring": {"tracing": {"endpoint": "http://collector.observability:4318"}},
    }
    assert not {"spec.agent.baseUrl", "spec.redis.url", "spec.monitoring.tracing.endpoint"} & warned(spec).keys()
