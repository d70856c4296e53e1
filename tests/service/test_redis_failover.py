"""An API and a separate worker on a Redis that fails over during traffic."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from stand_in import StandIn
from support.agent import KEY, Service, StartService, running_service
from support.eventually import eventually
from support.redis_server import RedisServer, running_redis
from support.redis_server.forward import Forward, forwarding

pytestmark = pytest.mark.timing

TASKS = 60


@pytest.fixture
def two_servers(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer, Forward]]:
    folders = tmp_path / "first", tmp_path / "second"
    for folder in folders:
        folder.mkdir()
    at_once = ("--repl-diskless-sync-delay", "0")
    with running_redis(folders[0], *at_once) as first, running_redis(folders[1], *at_once) as second:
        second.command("REPLICAOF", "127.0.0.1", str(first.port))
        eventually(lambda: b"master_link_status:up" in second.command("INFO", "replication"), "the replica follows", 30)
        with forwarding(first.port) as forward:
            yield first, second, forward


def submit_all(service: Service, accepted: list[str], odd: list[str]) -> None:
    """Submit tasks one by one, each until it is accepted, with an idempotency key that prevents duplicates."""
    with httpx.Client(base_url=service.url, timeout=30) as client:
        for number in range(TASKS):
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                answer = client.post("/tasks", json={"message": f"n{number}"}, headers={"Idempotency-Key": f"{number}"})
                if answer.status_code == 202:
                    accepted.append(answer.json()["task_id"])
                    break
                if answer.status_code != 503 or "retry-after" not in answer.headers:
                    odd.append(f"{answer.status_code} {answer.text}")
                time.sleep(0.02)
            else:
                odd.append(f"n{number} was not accepted within a minute")
                return


def test_nothing_accepted_is_lost_when_redis_fails_over_under_an_api_and_its_worker(
    start_service: StartService,
    stand_in: StandIn,
    two_servers: tuple[RedisServer, RedisServer, Forward],
    tmp_path: Path,
) -> None:
    first, second, forward = two_servers
    settings = {
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": stand_in.url,
        "REDIS_URL": forward.url,
        "RATE_LIMIT_REQUESTS": "0",
    }
    api = start_service(**settings)
    accepted: list[str] = []
    odd: list[str] = []
    with running_service(tmp_path, "worker", **settings) as worker:
        clients = threading.Thread(target=submit_all, args=(api, accepted, odd))
        clients.start()
        try:
            eventually(lambda: len(accepted) > TASKS // 3, "tasks are accepted", 60)
            forward.target = second.port

            def fails_over() -> bool:
                """Start the failover; Redis refuses it until the replica is online."""
                return first.command("FAILOVER", "TO", "127.0.0.1", str(second.port)).startswith(b"+OK")

            eventually(fails_over, "the replica takes over", 30)
        finally:
            clients.join()
        assert odd == []
        assert len(set(accepted)) == TASKS

        def done(task_id: str) -> bool:
            answer = api.get(f"/tasks/{task_id}")
            return answer.status_code == 200 and bool(answer.json()["status"] == "completed")

        for task_id in accepted:
            eventually(lambda task_id=task_id: done(task_id), "each task that was accepted is done", 60)  # type: ignore[misc]
        assert b"role:master" in second.command("INFO", "replication")
        assert "warning" not in api.post("/chat", message="hello").json()
        assert "Traceback" not in api.log() + worker.log()
