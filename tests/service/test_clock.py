"""Clock jumps of an hour, as when the clock is set or a virtual machine resumes: nothing is affected."""

import json
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from stand_in import StandIn, asking
from support.agent import KEY, Service, StartService
from support.eventually import eventually
from support.redis_server import RedisServer
from testbed import system

pytestmark = pytest.mark.timing

HOUR = 3600


@pytest.fixture
def jump(tmp_path: Path) -> Callable[[int], None]:
    """Return a function that offsets the service's clock by a number of seconds; the `FAKETIME_*` settings read it."""

    def set_by(seconds: int) -> None:
        new = tmp_path / "clock.new"
        new.write_text(f"{seconds:+d}\n")
        new.rename(tmp_path / "clock")

    set_by(0)
    return set_by


@pytest.fixture
def service(
    start_service: StartService,
    stand_in: StandIn,
    redis_server: RedisServer,
    tmp_path: Path,
    jump: Callable[[int], None],
) -> Service:
    [library] = system.unpacked("libfaketime", "usr/lib").rglob("libfaketimeMT.so.1")
    return start_service(
        ANTHROPIC_API_KEY=KEY,
        ANTHROPIC_BASE_URL=stand_in.url,
        REDIS_URL=redis_server.url,
        RATE_LIMIT_REQUESTS="6",
        REQUEST_TIMEOUT_SECONDS="5",
        STREAM_HEARTBEAT_SECONDS="0.2",
        LD_PRELOAD=str(library),
        FAKETIME_TIMESTAMP_FILE=str(tmp_path / "clock"),
        FAKETIME_NO_CACHE="1",
        # The monotonic clock does not jump (clock_gettime(2), CLOCK_MONOTONIC).
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )


def hours_off(service: Service) -> int:
    """Return by how many hours the newest log line differs from the real time."""
    logged = json.loads(service.log().splitlines()[-1])["timestamp"]
    away = datetime.fromisoformat(logged) - datetime.now(UTC)
    return round(away.total_seconds() / HOUR)


@pytest.mark.parametrize("hours", [1, -1], ids=["ahead", "back"])
def test_answers_limits_timeouts_and_shutdown_are_unaffected(
    service: Service, stand_in: StandIn, jump: Callable[[int], None], hours: int
) -> None:
    since = time.monotonic()
    first = service.post("/chat", message="hello").json()
    streamed: list[str] = []

    def stream() -> None:
        with httpx.stream(
            "POST",
            f"{service.url}/chat/stream",
            json={"message": asking("one two three", hold="stream", after=1)},
            timeout=30,
        ) as answer:
            streamed.extend(answer.iter_lines())

    reader = threading.Thread(target=stream)
    reader.start()
    eventually(lambda: service.metric("agent_requests_in_flight") == 1, "the stream is under way")
    jump(hours * HOUR)
    stand_in.release("stream")
    reader.join(30)
    assert '"type":"done"' in "".join(streamed)

    # The conversation is remembered and answered in time.
    again = service.post("/chat", message="again", conversation_id=first["conversation_id"])
    assert hours_off(service) == hours, "the clock of the service did jump"
    assert again.json()["conversation_id"] == first["conversation_id"]
    assert 0 <= again.json()["processing_time_ms"] < 60_000

    # Heartbeats are sent, and the timeout ends the stream: neither at once nor never.
    started = time.monotonic()
    silent = service.post("/chat/stream", message=asking(stall=20)).text
    assert 4 < time.monotonic() - started < 60
    assert silent.count(": waiting") > 3
    assert '"type":"error"' in silent

    # The rate limit counts as before: six at once, then one every ten seconds.
    allowed = 4
    while (refused := service.post("/chat", message="hello")).status_code == 200:
        allowed += 1
        assert allowed < 30, "no request is refused"
    assert refused.status_code == 429
    assert 6 <= allowed <= 6 + (time.monotonic() - since) / 10
    assert 1 <= int(refused.headers["Retry-After"]) <= 60

    components = service.get("/health").json()["components"].values()
    assert all(0 <= component["checked_seconds_ago"] < 60 for component in components)
    seconds = re.findall(r'"seconds":(-?[0-9.]+)', service.log())
    assert all(0 <= float(value) < 60 for value in seconds)

    jump(0)
    service.terminate()
    assert service.wait() == 0
