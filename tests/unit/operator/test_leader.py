"""Who may acquire the Lease, and how it is written."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_operator.controller.leader_election import may_take, observe, taken
from agent_operator.controller.lease import lease_name

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
DURATION = 15.0


def record(holder: str, clock: datetime = NOW) -> dict[str, Any]:
    return taken({}, holder, DURATION, clock)


def test_a_lease_without_a_holder_may_be_acquired_at_once() -> None:
    released = {**record("other"), "holderIdentity": ""}

    assert may_take(observe(None, {}, 0), "we", 0, DURATION)
    assert may_take(observe(None, released, 0), "we", 0, DURATION)


def test_our_own_lease_may_be_renewed() -> None:
    assert may_take(observe(None, record("we"), 0), "we", 1, DURATION)


def test_a_lease_unchanged_for_its_duration_is_expired() -> None:
    seen = observe(None, record("other"), 100)

    assert not may_take(observe(seen, record("other"), 114), "we", 114.9, DURATION)
    assert may_take(observe(seen, record("other"), 114), "we", 115, DURATION)


@pytest.mark.parametrize("off", [timedelta(minutes=-5), timedelta(), timedelta(minutes=5), timedelta(days=365)])
def test_the_clock_of_the_holder_does_not_matter(off: timedelta) -> None:
    seen = observe(None, record("other", NOW + off), 100)
    assert not may_take(seen, "we", 114, DURATION)
    assert may_take(seen, "we", 115, DURATION)

    renewed = observe(seen, record("other", NOW + off + timedelta(seconds=2)), 114)

    assert not may_take(renewed, "we", 128, DURATION)
    assert may_take(renewed, "we", 129, DURATION)


def test_the_duration_is_the_one_in_the_record() -> None:
    seen = observe(None, {**record("other"), "leaseDurationSeconds": 60}, 0)

    assert not may_take(seen, "we", 59, DURATION)
    assert may_take(seen, "we", 60, DURATION)


def test_a_record_without_a_duration_has_ours() -> None:
    assert may_take(observe(None, {"holderIdentity": "other"}, 0), "we", 15, DURATION)
    assert not may_take(observe(None, {"holderIdentity": "other"}, 0), "we", 14, DURATION)


def test_a_renewal_keeps_the_acquire_time_and_a_takeover_counts_as_a_transition() -> None:
    first = record("one")
    renewed = taken(first, "one", DURATION, NOW + timedelta(seconds=2))
    after = taken(renewed, "two", DURATION, NOW + timedelta(seconds=30))

    assert first["leaseTransitions"] == renewed["leaseTransitions"] == 0
    assert renewed["acquireTime"] == first["acquireTime"] == "2026-01-01T12:00:00.000000Z"
    assert renewed["renewTime"] == "2026-01-01T12:00:02.000000Z"
    assert after["leaseTransitions"] == 1
    assert after["acquireTime"] == after["renewTime"] == "2026-01-01T12:00:30.000000Z"


def test_operators_of_one_scope_share_a_lease_and_those_of_other_scopes_do_not() -> None:
    names = {
        lease_name((), None),
        lease_name((), "operator=blue"),
        lease_name((), "operator=green"),
        lease_name(("one",), None),
        lease_name(("one",), "operator=blue"),
    }

    assert len(names) == 5
    assert lease_name((), None) == "agent-operator"
    assert lease_name(("two", "one", "two"), None) == lease_name(("one", "two"), None)
