"""The order in which the providers of an agent are asked, by a clock that the test sets."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from agent_service.agent.fallbacks.circuit import LONGEST_SKIP_SECONDS, SKIP_SECONDS
from agent_service.agent.fallbacks.places import STICKY_SECONDS, Place, Places
from agent_service.telemetry.fallback_metrics import FallbackMetrics


class Clock:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def places(clock: Clock, registry: CollectorRegistry) -> Places:
    endpoint: Any = object()
    names = ("anthropic", "bedrock", "vertex")
    return Places([Place(name, name, "model", endpoint) for name in names], FallbackMetrics(registry), clock)


def order(places: Places, conversation: str | None = None) -> list[str]:
    return [place.name for place in places.candidates(conversation)]


def fail(places: Places, number: int, reason: str, wait: float | None = None) -> None:
    place = places.all[number]
    with places.asking(place):
        places.failed(place, reason, wait, places.all[(number + 1) % 3])


def test_the_order_is_that_of_the_configuration(places: Places) -> None:
    assert order(places) == ["anthropic", "bedrock", "vertex"]


def test_a_provider_is_skipped_after_three_failures_in_a_row(places: Places) -> None:
    for _ in range(2):
        fail(places, 0, "overloaded")
        assert order(places)[0] == "anthropic"
    fail(places, 0, "overloaded")
    assert order(places) == ["bedrock", "vertex"]


def test_an_answer_between_failures_ends_their_row(places: Places) -> None:
    for _ in range(4):
        fail(places, 0, "failed")
        places.answered(places.all[0], "model")
    assert order(places)[0] == "anthropic"


@pytest.mark.parametrize("reason", ["unreachable", "timed_out", "credentials_refused", "not_offered"])
def test_errors_that_the_next_call_would_meet_too_skip_a_provider_at_once(places: Places, reason: str) -> None:
    fail(places, 0, reason)
    assert order(places) == ["bedrock", "vertex"]


def test_the_time_that_a_provider_asks_for_is_kept_within_a_bound(places: Places, clock: Clock) -> None:
    fail(places, 0, "rate_limited", 20.0)
    clock.seconds += 19
    assert order(places)[0] == "bedrock"
    clock.seconds += 1
    assert order(places)[0] == "anthropic"

    fail(places, 0, "rate_limited", 3600.0)
    clock.seconds += LONGEST_SKIP_SECONDS
    assert order(places)[0] == "anthropic"


def test_one_call_at_a_time_probes_a_skipped_provider(places: Places, clock: Clock) -> None:
    fail(places, 0, "unreachable")
    clock.seconds += SKIP_SECONDS
    with places.asking(places.all[0]):
        assert order(places) == ["bedrock", "vertex"]
    assert order(places)[0] == "anthropic"


def test_a_failed_probe_doubles_the_time_up_to_a_bound(places: Places, clock: Clock) -> None:
    expected = [SKIP_SECONDS, 2 * SKIP_SECONDS, 4 * SKIP_SECONDS, LONGEST_SKIP_SECONDS, LONGEST_SKIP_SECONDS]
    for seconds in expected:
        fail(places, 0, "unreachable")
        clock.seconds += seconds - 1
        assert order(places)[0] == "bedrock"
        clock.seconds += 1
        assert order(places)[0] == "anthropic"


def test_an_answer_ends_the_skipping(places: Places, clock: Clock, registry: CollectorRegistry) -> None:
    fail(places, 0, "unreachable")
    assert registry.get_sample_value("agent_model_provider_failing", {"provider": "anthropic"}) == 1
    clock.seconds += SKIP_SECONDS
    places.answered(places.all[0], "model")
    assert order(places)[0] == "anthropic"
    assert registry.get_sample_value("agent_model_provider_failing", {"provider": "anthropic"}) == 0


def test_when_all_fail_only_the_one_that_is_due_first_is_asked(places: Places, clock: Clock) -> None:
    for number in (1, 0, 2):
        fail(places, number, "unreachable")
        clock.seconds += 1
    assert order(places) == ["bedrock"]


def test_a_conversation_stays_with_a_fallback_while_its_cache_lives(places: Places, clock: Clock) -> None:
    places.remember("one", places.all[1])
    clock.seconds += STICKY_SECONDS - 1
    assert order(places, "one") == ["bedrock", "anthropic", "vertex"]
    assert order(places, "another")[0] == "anthropic"
    clock.seconds += 1
    assert order(places, "one")[0] == "anthropic"


def test_each_answer_renews_the_time_of_a_conversation(places: Places, clock: Clock) -> None:
    for _ in range(3):
        places.remember("one", places.all[1])
        clock.seconds += STICKY_SECONDS - 1
    assert order(places, "one")[0] == "bedrock"


def test_a_conversation_does_not_stay_with_a_provider_that_is_skipped(places: Places) -> None:
    places.remember("one", places.all[1])
    fail(places, 1, "unreachable")
    assert order(places, "one") == ["anthropic", "vertex"]


def test_remembered_conversations_are_bounded(places: Places) -> None:
    for number in range(10_001):
        places.remember(str(number), places.all[1])
    assert order(places, "0")[0] == "anthropic"
    assert order(places, "1")[0] == "bedrock"
