"""Every kind of Redis fault during traffic: chat continues with a warning, and remembers again afterwards."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from stand_in import StandIn
from support.agent import KEY, Service, StartService
from support.eventually import eventually
from support.redis_server import RedisServer, running_redis

pytestmark = pytest.mark.timing

# A frozen server delays the requests of that moment by the timeout of the connection, of two seconds, and no longer:
# without it, they would end with the client's timeout. The rest is for a busy machine.
LONGEST_SECONDS = 15


class Traffic:
    """Clients that chat without a pause, each in its own conversation, until `end`."""

    def __init__(self, service: Service, clients: int = 4) -> None:
        self.answers: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self.slowest = 0.0
        self._service = service
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._chat) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def warned(self) -> int:
        return sum("warning" in answer for answer in list(self.answers))

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        try:
            eventually(condition, what)
        except BaseException:
            self.end()
            raise

    def _chat(self) -> None:
        conversation = None
        with httpx.Client(timeout=30, base_url=self._service.url) as client:
            while not self._ended.is_set():
                started = time.monotonic()
                answer = client.post("/chat", json={"message": "hello", "conversation_id": conversation})
                self.slowest = max(self.slowest, time.monotonic() - started)
                if answer.status_code != 200:
                    self.faults.append(f"{answer.status_code} {answer.text}")
                    return
                self.answers.append(answer.json())
                conversation = answer.json()["conversation_id"]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        yield server


@pytest.fixture
def service(start_service: StartService, stand_in: StandIn, redis: RedisServer) -> Service:
    return start_service(
        ANTHROPIC_API_KEY=KEY,
        ANTHROPIC_BASE_URL=stand_in.url,
        REDIS_URL=redis.url,
        RATE_LIMIT_REQUESTS="1000000",
    )


def go_on(service: Service, conversation: str) -> dict[str, Any]:
    answer = service.post("/chat", message="and now?", conversation_id=conversation)
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


# The master does not exist: the server becomes a replica that rejects writes.
REPLICA = ("REPLICAOF", "127.0.0.1", "1")

# How to cause each fault, and how to end it.
FAULTS: dict[str, tuple[Callable[[RedisServer], object], Callable[[RedisServer], object]]] = {
    "stopped": (RedisServer.stop, RedisServer.start),
    "killed": (RedisServer.kill, RedisServer.start),
    "frozen": (RedisServer.freeze, RedisServer.thaw),
    "full": (
        lambda redis: redis.command("CONFIG", "SET", "maxmemory", "1"),
        lambda redis: redis.command("CONFIG", "SET", "maxmemory", "0"),
    ),
    "read-only": (
        lambda redis: (redis.command("CONFIG", "SET", "replica-serve-stale-data", "no"), redis.command(*REPLICA)),
        lambda redis: redis.command("REPLICAOF", "NO", "ONE"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_chat_continues_during_a_redis_fault_and_remembers_afterwards(
    service: Service, redis: RedisServer, fault: str
) -> None:
    breaks, mends = FAULTS[fault]
    conversation = service.post("/chat", message="hello").json()["conversation_id"]
    assert go_on(service, conversation)["conversation_id"] == conversation
    traffic = Traffic(service)
    traffic.wait(lambda: len(traffic.answers) > 20, "traffic flows")
    assert traffic.warned() == 0
    breaks(redis)
    traffic.wait(lambda: traffic.warned() > 20 or bool(traffic.faults), "clients are warned")
    kept = go_on(service, conversation)
    stream = service.post("/chat/stream", message="hello", conversation_id=conversation).text
    mends(redis)
    mended = len(traffic.answers)
    traffic.wait(
        lambda: len(traffic.answers) > mended and "warning" not in traffic.answers[-1], "clients are warned no more"
    )
    traffic.end()
    assert traffic.faults == []
    assert traffic.slowest < LONGEST_SECONDS
    # An id that cannot be looked up is kept, so that the conversation continues afterwards.
    assert kept["conversation_id"] == conversation
    assert "cannot be reached" in kept["warning"]
    done = json.loads(stream.strip().splitlines()[-1].removeprefix("data: "))
    assert (done["type"], done["conversation_id"]) == ("done", conversation)
    assert "cannot be reached" in done["warning"]
    after = go_on(service, conversation)
    assert (after["conversation_id"], "warning" in after) == (conversation, False)
    assert service.metric('agent_http_requests_total{method="POST",route="/chat",status="500"}') == 0
    assert "Traceback" not in service.log()


def test_a_redis_that_suddenly_requires_a_password_is_reported_and_chat_continues(
    service: Service, redis: RedisServer
) -> None:
    conversation = service.post("/chat", message="hello").json()["conversation_id"]
    with Redis.from_url(redis.url, single_connection_client=True) as admin:
        admin.config_set("requirepass", "s3cret")
        # Redis does not ask connected clients for the new password.
        admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        eventually(lambda: "warning" in go_on(service, conversation), "clients are warned")
        assert service.get("/health/ready").status_code == 200
        eventually(
            lambda: service.get("/health").json()["components"]["redis"]["status"] == "down", "health reports it", 30
        )
        admin.config_set("requirepass", "")
        eventually(lambda: "warning" not in go_on(service, conversation), "clients are warned no more")
    assert go_on(service, conversation)["conversation_id"] == conversation
    assert "s3cret" not in service.log()


def test_a_wrong_password_is_reported_without_the_password(
    start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    with running_redis(tmp_path, "--requirepass", "right-password") as redis:
        service = start_service(
            ANTHROPIC_API_KEY=KEY,
            ANTHROPIC_BASE_URL=stand_in.url,
            REDIS_URL="",
            REDIS_HOST="127.0.0.1",
            REDIS_PORT=str(redis.port),
            REDIS_PASSWORD="wrong-password",
        )
        answer = service.post("/chat", message="hello")
        assert answer.status_code == 200
        assert "warning" in answer.json()
        eventually(
            lambda: service.get("/health").json()["components"]["redis"]["status"] == "down", "health reports it"
        )
        assert service.get("/health/ready").status_code == 200
        assert "wrong-password" not in service.log() + service.get("/health").text


def test_a_redis_that_lost_all_data_is_used_as_a_new_one(service: Service, redis: RedisServer) -> None:
    """That includes the scripts, which a restarted server does not have."""
    conversation = service.post("/chat", message="hello").json()["conversation_id"]
    redis.command("FLUSHALL")
    redis.command("SCRIPT", "FLUSH")
    answer = go_on(service, conversation)
    assert "warning" not in answer
    assert answer["conversation_id"] != conversation
    assert go_on(service, answer["conversation_id"])["conversation_id"] == answer["conversation_id"]


def test_the_service_starts_and_stops_without_redis(start_service: StartService, stand_in: StandIn) -> None:
    service = start_service(ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url, REDIS_URL="redis://127.0.0.1:1/0")
    assert service.get("/health/ready").status_code == 200
    assert "warning" in service.post("/chat", message="hello").json()
    service.terminate()
    assert service.wait(15) == 0
