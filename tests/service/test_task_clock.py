"""Clock jumps of Redis or of a worker: no task is lost, repeated, or delayed until the old time."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stand_in import StandIn, asking
from support.agent import KEY, Service, StartService, running_service
from support.eventually import eventually
from support.redis_server import RedisServer, running_redis
from testbed import system

pytestmark = pytest.mark.timing

HALF_AN_HOUR = 1800


class Clock:
    """A fake clock for other programs; see faketime(1)."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        [library] = system.unpacked("libfaketime", "usr/lib").rglob("libfaketimeMT.so.1")
        self.settings = {
            # Preload the C library too; otherwise the jemalloc of Debian's Redis reads the time before it is available.
            "LD_PRELOAD": f"{library} libc.so.6",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            # A monotonic clock does not jump (clock_gettime(2), CLOCK_MONOTONIC).
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """Set the clock to an offset in seconds from the real time."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture
def redis_with_clock(tmp_path: Path, clock: Clock) -> Iterator[RedisServer]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in clock.settings.items():
            patch.setenv(name, value)
        server = running_redis(tmp_path)
        started = server.__enter__()
    yield started
    server.__exit__(None, None, None)


def look_up(api: Service, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/tasks/{task_id}").json()
    return found


def submit(api: Service, message: str) -> str:
    return str(api.post("/tasks", message=message).json()["task_id"])


def done_at_once(api: Service, task_id: str) -> bool:
    task = look_up(api, task_id)
    assert task["attempts"] <= 1, "it was started twice"
    return bool(task["status"] == "completed")


@pytest.fixture
def api(start_service: StartService, redis_with_clock: RedisServer, stand_in: StandIn) -> Service:
    """Return an API that runs two tasks at a time."""
    return start_service(
        REDIS_URL=redis_with_clock.url,
        API_RUNS_TASKS="true",
        WORKER_CONCURRENCY="2",
        ANTHROPIC_API_KEY=KEY,
        ANTHROPIC_BASE_URL=stand_in.url,
        RATE_LIMIT_REQUESTS="0",
    )


@pytest.fixture
def jump(clock: Clock, redis_with_clock: RedisServer) -> Callable[[int], None]:
    def server_time() -> int:
        return int(redis_with_clock.command("TIME").splitlines()[2])

    def set_by(seconds: int) -> None:
        before = server_time()
        clock.jump(seconds)
        assert round((server_time() - before) / 60) == round(seconds / 60), "the clock of Redis did jump"

    return set_by


def test_a_forward_jump_of_the_redis_clock_takes_no_task_from_a_live_worker(
    api: Service, stand_in: StandIn, jump: Callable[[int], None]
) -> None:
    running = submit(api, asking(hold="task"))
    eventually(lambda: look_up(api, running)["status"] == "running", "it is running")
    jump(HALF_AN_HOUR)
    for _ in range(3):
        # Each new task is dispatched; the first is not, although its worker is silent by the clock of Redis.
        after = submit(api, "afterwards")
        eventually(lambda each=after: done_at_once(api, each), "it is done")  # type: ignore[misc]
        assert look_up(api, running)["attempts"] == 1
    stand_in.release("task")
    eventually(lambda: done_at_once(api, running), "it is done")


def test_a_backward_jump_of_the_redis_clock_delays_no_waiting_task(
    api: Service, stand_in: StandIn, jump: Callable[[int], None]
) -> None:
    running = [submit(api, asking(hold="task")) for _ in range(2)]
    eventually(lambda: all(look_up(api, each)["status"] == "running" for each in running), "they are running")
    waiting = submit(api, "waits")
    jump(-HALF_AN_HOUR)
    stand_in.release("task")
    eventually(lambda: all(done_at_once(api, each) for each in (*running, waiting)), "all are done")


def test_a_backward_jump_of_the_redis_clock_does_not_extend_the_pause_of_a_throttled_model_api(
    api: Service, jump: Callable[[int], None]
) -> None:
    throttled = submit(api, asking(fault=429, retry_after=5, times=1, id="clock"))
    eventually(lambda: tried(api, throttled), "it is throttled")
    jump(-HALF_AN_HOUR)
    eventually(lambda: look_up(api, throttled)["status"] == "completed", "it is done", 30)


def tried(api: Service, task_id: str) -> bool:
    task = look_up(api, task_id)
    return (task["status"], task["attempts"]) == ("pending", 1)


def test_a_jump_of_the_workers_clock_does_not_affect_its_running_task(
    tmp_path: Path, start_service: StartService, redis_server: RedisServer, stand_in: StandIn, clock: Clock
) -> None:
    api = start_service(MODEL_PROVIDER="echo", RATE_LIMIT_REQUESTS="0")
    common = {"REDIS_URL": redis_server.url, "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url}
    with running_service(tmp_path, "worker", **common, **clock.settings):
        for seconds in (HALF_AN_HOUR, -HALF_AN_HOUR):
            clock.jump(0)
            running = submit(api, asking(hold=f"jump{seconds}"))
            eventually(lambda each=running: look_up(api, each)["status"] == "running", "it is running")  # type: ignore[misc]
            clock.jump(seconds)
            stand_in.release(f"jump{seconds}")
            eventually(lambda each=running: look_up(api, each)["status"] != "running", "it ends")  # type: ignore[misc]
            assert (look_up(api, running)["status"], look_up(api, running)["attempts"]) == ("completed", 1)
