"""Workers as separate processes on a real Redis: kills, draining, Redis outages and invalid settings."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.task_client import CLIENT_KEY
from stand_in import StandIn, asking
from support.agent import KEY, Service, StartService, run_agent_service, running_service
from support.eventually import eventually
from support.promtool import promtool
from support.redis_server import RedisServer, running_redis

StartWorker = StartService

# An API without client keys refuses to list tasks.
SHOWN = {"X-API-Key": CLIENT_KEY}

pytestmark = pytest.mark.timing


@pytest.fixture
def start_worker(tmp_path: Path, redis_server: RedisServer, stand_in: StandIn) -> Iterator[StartWorker]:
    """Yield a function that starts a worker which uses the stand-in."""
    common = {"REDIS_URL": redis_server.url, "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url}
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running_service(tmp_path, "worker", **{**common, **settings}))


@pytest.fixture
def api(start_service: StartService) -> Service:
    """Return an API that leaves tasks to workers."""
    return start_service(MODEL_PROVIDER="echo", RATE_LIMIT_REQUESTS="0", API_KEYS=CLIENT_KEY)


def submit(api: Service, message: str) -> str:
    answer = httpx.post(f"{api.url}/tasks", json={"message": message}, headers=SHOWN, timeout=30)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def tasks(api: Service, status: str | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    query = "?limit=100" + (f"&status={status}" if status else "")
    page = _get(api, f"/tasks{query}")
    found += page["tasks"]
    while page["next_cursor"]:
        page = _get(api, f"/tasks{query}&cursor={page['next_cursor']}")
        found += page["tasks"]
    return found


def task(api: Service, task_id: str) -> dict[str, Any]:
    return _get(api, f"/tasks/{task_id}")


def _get(api: Service, path: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{api.url}{path}", headers=SHOWN, timeout=30).json()
    return found


def end_at_once(process: Service) -> None:
    """Terminate the process twice, with a wait between: two simultaneous signals would count as one."""
    process.terminate()
    eventually(lambda: process.get("/health/ready").status_code == 503, "it drains")
    process.terminate()


def test_a_killed_worker_loses_none_of_200_tasks(api: Service, start_worker: StartWorker, stand_in: StandIn) -> None:
    doomed = start_worker(WORKER_CONCURRENCY="20")
    messages = [f"task number {number}" for number in range(60)]
    messages += [asking(f"task number {number}", hold="late") for number in range(60, 200)]
    ids = [submit(api, message) for message in messages]
    eventually(lambda: len(tasks(api, "completed")) == 60, "some are done")
    eventually(lambda: len(tasks(api, "running")) == 20, "as many as it takes are running")
    doomed.process.send_signal(signal.SIGKILL)
    doomed.wait()
    cut_off = {each["task_id"] for each in tasks(api, "running")}
    stand_in.release("late")
    start_worker(WORKER_CONCURRENCY="50")
    eventually(lambda: len(tasks(api, "completed")) == 200, "all are done", 60)
    for message, task_id in zip(messages, ids, strict=True):
        done = task(api, task_id)
        assert f'heard "{message}"' in done["result"]["response"]
        assert done["attempts"] == (2 if task_id in cut_off else 1)
    assert [len(tasks(api, status)) for status in ("pending", "running", "failed")] == [0, 0, 0]


def test_the_tasks_of_a_killed_worker_go_to_another_worker(
    api: Service, start_worker: StartWorker, stand_in: StandIn
) -> None:
    doomed, survivor = (start_worker(WORKER_CONCURRENCY="5") for _ in range(2))
    messages = [asking(f"task number {number}", stall=0.3) for number in range(60)]
    ids = [submit(api, message) for message in messages]
    eventually(lambda: len(tasks(api, "completed")) >= 10, "some are done")
    doomed.process.send_signal(signal.SIGKILL)
    eventually(lambda: len(tasks(api, "completed")) == 60, "all are done", 40)
    attempts = []
    for message, task_id in zip(messages, ids, strict=True):
        done = task(api, task_id)
        assert f'heard "{message}"' in done["result"]["response"]
        attempts.append(done["attempts"])
    assert attempts.count(2) <= 5
    assert attempts.count(1) == 60 - attempts.count(2)
    # A task claimed just before the worker was killed has an attempt, but may not have sent a request yet.
    assert 60 <= len(stand_in.requests()) <= sum(attempts), "what one worker did no other one did again"
    assert survivor.get("/health/live").status_code == 200


def test_a_task_that_kills_its_workers_is_not_retried_forever(api: Service, start_worker: StartWorker) -> None:
    doomed = start_worker(TASK_MAX_ATTEMPTS="1")
    task_id = submit(api, asking(stall=60))
    eventually(lambda: task(api, task_id)["attempts"] == 1, "it is running")
    doomed.process.kill()
    doomed.wait()
    start_worker(TASK_MAX_ATTEMPTS="1")
    eventually(lambda: task(api, task_id)["status"] == "failed", "it is given up", 40)
    assert (task(api, task_id)["error"]["code"], task(api, task_id)["attempts"]) == ("worker_lost", 1)


def test_a_draining_worker_finishes_its_tasks_and_takes_no_new_ones(
    api: Service, start_worker: StartWorker, stand_in: StandIn
) -> None:
    worker = start_worker()
    running = submit(api, asking(hold="drained"))
    eventually(lambda: task(api, running)["status"] == "running", "it is running")
    worker.terminate()
    eventually(lambda: worker.get("/health/ready").json()["reason"] == "draining", "it drains")
    later = submit(api, "not by this one")
    stand_in.release("drained")
    assert worker.wait() == 0
    assert task(api, running)["status"] == "completed"
    assert task(api, later)["status"] == "pending"


def test_a_worker_returns_an_unfinished_task_to_the_queue(
    api: Service, start_worker: StartWorker, stand_in: StandIn
) -> None:
    worker = start_worker()
    running = submit(api, asking("in good hands", hold="hands"))
    eventually(lambda: task(api, running)["status"] == "running", "it is running")
    end_at_once(worker)
    assert worker.wait() == 0
    assert (task(api, running)["status"], task(api, running)["attempts"]) == ("pending", 0)
    eventually(lambda: all(seen["state"] != "running" for seen in stand_in.requests()), "the model call ends")
    stand_in.release("hands")
    start_worker()
    eventually(lambda: task(api, running)["status"] == "completed", "another one does it")
    assert task(api, running)["attempts"] == 1


def test_a_worker_survives_an_outage_of_redis(
    tmp_path: Path, start_service: StartService, start_worker: StartWorker, stand_in: StandIn
) -> None:
    with running_redis(tmp_path) as server:
        api = start_service(MODEL_PROVIDER="echo", REDIS_URL=server.url)
        worker = start_worker(REDIS_URL=server.url)
        running = submit(api, asking(hold="outage"))
        eventually(lambda: task(api, running)["status"] == "running", "it is running")
        server.stop()
        stand_in.release("outage")
        eventually(lambda: "Lost the connection to Redis" in worker.log(), "the worker notices")
        server.start()
        eventually(lambda: api.get(f"/tasks/{running}").json().get("status") == "completed", "it is done", 30)
        server.freeze()
        eventually(lambda: worker.log().count("Lost the connection to Redis") > 1, "the worker notices")
        assert worker.get("/health/live").status_code == 200
        server.thaw()
        eventually(lambda: api.get(f"/tasks/{running}").status_code == 200, "Redis is back")
        done = submit(api, "afterwards")
        eventually(lambda: task(api, done)["status"] == "completed", "work continues", 30)
        assert "Traceback" not in worker.log()
        worker.terminate()
        assert worker.wait() == 0


def test_a_worker_reports_the_budget_it_used_while_redis_was_down(
    tmp_path: Path, start_service: StartService, start_worker: StartWorker, stand_in: StandIn
) -> None:
    with running_redis(tmp_path) as server:
        common = {"REDIS_URL": server.url, "BUDGET_TOKENS": "1000", "BUDGET_ACTION": "warn"}
        api, worker = start_service(MODEL_PROVIDER="echo", **common), start_worker(**common)
        done = submit(api, asking(hold="outage"))
        eventually(lambda: task(api, done)["status"] == "running", "it is running")
        server.stop()
        stand_in.release("outage")
        eventually(lambda: "Task was completed" in worker.log(), "it is done")
        server.start()
        eventually(lambda: api.get(f"/tasks/{done}").json().get("status") == "completed", "it is reported", 30)
        used = task(api, done)["result"]["tokens_used"]
        eventually(lambda: api.metric("agent_budget_used_tokens ") == used, "its usage is reported too")


def test_pending_tasks_resume_after_a_restart_of_an_api_with_an_embedded_valkey(
    start_service: StartService, stand_in: StandIn
) -> None:
    common = {"REDIS_URL": "", "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url, "API_KEYS": CLIENT_KEY}
    before = start_service(WORKER_CONCURRENCY="1", **common)
    ids = [submit(before, asking(f"number {number}", stall=1)) for number in range(6)]
    eventually(lambda: len(tasks(before, "completed")) >= 1, "the first is done")
    end_at_once(before)
    assert before.wait() == 0
    after = start_service(**common)
    eventually(lambda: len(tasks(after, "completed")) == 6, "all are done", 30)
    assert {each["task_id"] for each in tasks(after)} == set(ids)


def test_the_log_of_a_worker_has_no_message_and_no_answer(api: Service, start_worker: StartWorker) -> None:
    worker = start_worker(LOG_LEVEL="DEBUG")
    done = submit(api, asking("my-secret-words", fault=500, times=1, id="log"))
    eventually(lambda: task(api, done)["status"] == "completed", "it is done", 30)
    assert done in worker.log()
    assert "my-secret-words" not in worker.log()
    assert worker.metric('agent_model_requests_total{model="claude-sonnet-5-5",outcome="ok"}') == 1


def test_a_worker_without_redis_exits_with_one_line(tmp_path: Path) -> None:
    ended = run_agent_service("worker", folder=tmp_path, MODEL_PROVIDER="echo")
    assert ended.returncode == 2
    assert ended.stderr.startswith("REDIS_URL: is not set")
    assert len(ended.stderr.splitlines()) == 1


def test_an_invalid_setting_of_a_worker_is_reported_in_one_line(tmp_path: Path) -> None:
    ended = run_agent_service("worker", folder=tmp_path, MODEL_PROVIDER="echo", WORKER_CONCURRENCY="0")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "WORKER_CONCURRENCY" in ended.stderr


def test_a_worker_exposes_metrics_of_its_turns_and_not_of_the_queue(api: Service, start_worker: StartWorker) -> None:
    """The pods of the API expose the queue. From workers too, whose Service is another, alerts would fire twice."""
    worker = start_worker()
    ids = [submit(api, f"task {number}") for number in range(3)]
    eventually(lambda: len(tasks(api, "completed")) == len(ids), "all are done")
    eventually(lambda: api.metric('agent_tasks{state="completed"}') == len(ids), "the API counts them")
    text = worker.get("/metrics").text
    assert 'agent_model_requests_total{model="claude-sonnet-5-5",outcome="ok"} 3.0' in text
    assert "agent_tasks{" not in text
    assert "agent_task_queue_depth 0.0" in text
    assert "agent_stream_first_token_seconds_count 0.0" in text, "no client waits for the first token of a task"
    assert worker.get("/health").json()["components"].keys() == {"model_api", "redis", "memory"}
    assert promtool("check", "metrics", stdin=text) == (0, "")
