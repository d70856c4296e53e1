"""Metrics of the watches: how many there are, and for how long each has been silent."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from yarl import URL

from agent_operator.controller.metrics import Metrics
from agent_operator.controller.watch import progress
from agent_operator.controller.watch.progress import LIMIT, Watches
from agent_operator.kube.resources import DEPLOYMENT

SILENCE = 70.0


class Clock:
    """The clock of the watches, which a test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def sample(metrics: Metrics) -> Callable[[str], float | None]:
    return lambda name: metrics.registry.get_sample_value(f"agent_operator_{name}", {"kind": "Deployment"})


def answer(watched: Watches, path: str) -> None:
    """Answer a watch request as the API server does."""
    [answered] = watched.tracing(lambda: None).on_request_end
    request = SimpleNamespace(url=URL(f"https://api{path}?watch=true"), response=SimpleNamespace(status=200))
    no_session = cast("aiohttp.ClientSession", None)
    asyncio.run(cast("Any", answered)(no_session, SimpleNamespace(), request))


def test_a_watch_is_silent_until_it_yields_an_event_or_restarts(
    clock: Clock, metrics: Metrics, sample: Callable[[str], float | None]
) -> None:
    watched = Watches(metrics, SILENCE)
    watched.expect([DEPLOYMENT])
    clock.now += 100
    assert sample("watch_silent_seconds") == 100
    watched.progressed("Deployment", "one")
    assert sample("watch_silent_seconds") == 0
    clock.now += 30
    answer(watched, "/apis/apps/v1/deployments")
    assert sample("watch_silent_seconds") == 0
    assert sample("watches") == 1


def test_a_stalled_watch_is_reported_though_that_of_another_namespace_progresses(
    clock: Clock, metrics: Metrics, sample: Callable[[str], float | None]
) -> None:
    watched = Watches(metrics, SILENCE)
    watched.expect([DEPLOYMENT], ["one", "two"])
    assert sample("watches") == 2
    for _ in range(LIMIT + 1):
        clock.now += SILENCE
        watched.progressed("Deployment", "one")
    assert sample("watch_silent_seconds") == (LIMIT + 1) * SILENCE
    assert watched.fault() == "the watch of Deployment in two made no progress for 490 s"
    answer(watched, "/apis/apps/v1/namespaces/two/deployments")
    assert watched.fault() is None


def test_a_removed_kind_is_no_longer_reported(
    clock: Clock, metrics: Metrics, sample: Callable[[str], float | None]
) -> None:
    watched = Watches(metrics, SILENCE)
    watched.expect([DEPLOYMENT])
    watched.expect([])
    watched.progressed("Deployment", "one")
    clock.now += 1000
    assert (sample("watches"), sample("watch_silent_seconds"), watched.fault()) == (None, None, None)
