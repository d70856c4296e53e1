"""The OpenAPI document: valid and invalid requests generated from it get answers that it describes."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from stand_in import StandIn
from support.agent import KEY, Service, running_service
from support.redis_server import RedisServer

CLIENT_KEY = "client-key-0123456789"

# The same requests in every run: a failure is reproducible, and a new one comes from a change of our own.
BOUNDED = hypothesis.settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@pytest.fixture(scope="module")
def described_service(
    stand_in_process: StandIn, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    with running_service(
        tmp_path_factory.mktemp("described"),
        ANTHROPIC_API_KEY=KEY,
        ANTHROPIC_BASE_URL=stand_in_process.url,
        REDIS_URL=redis_process.url,
        STATE_PREFIX="described",
        API_KEYS=CLIENT_KEY,
        RATE_LIMIT_REQUESTS="0",
    ) as running:
        yield running


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_matches_the_document(described_service: Service, mode: GenerationMode) -> None:
    """Run all checks of schemathesis: no 5xx, status, content type, headers, body, invalid input refused, and so on."""
    api = schemathesis.openapi.from_url(f"{described_service.url}/openapi.json")
    operations = [found.ok() for found in api.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) > 6
    answered = 0
    for operation in operations:

        @BOUNDED
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def keeps_its_word(case: Any) -> None:
            nonlocal answered
            case.call_and_validate(headers={"Authorization": f"Bearer {CLIENT_KEY}"}, timeout=30)
            answered += 1

        with suppress(hypothesis.errors.Unsatisfiable):  # an operation without input has no invalid input
            keeps_its_word()
    assert answered > BOUNDED.max_examples


def test_the_generated_requests_left_no_traceback_and_no_request_in_flight(described_service: Service) -> None:
    assert httpx.get(f"{described_service.url}/health/live").status_code == 200
    assert described_service.metric("agent_requests_in_flight") == 0
    assert "unexpectedly" not in described_service.log()
    assert "Traceback" not in described_service.log()
