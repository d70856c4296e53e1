"""Damaged records in Redis: one that is not as the service wrote it affects its own task only."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import redis

from agent_service.state.redis import Redis
from agent_service.tasks.queue import Tasks
from service.task_client import OWNER, keyed, submit
from support.agent import MakeClient
from support.eventually import eventually_async
from support.redis_server import RedisServer

pytestmark = pytest.mark.timing

RECORD = "{portside}:task:record:"


def damage(server: RedisServer, task_id: str, how: tuple[Any, ...]) -> None:
    """Run a command, or a tuple of commands, on the record; `KEY` stands for its name."""
    commands = how if isinstance(how[0], tuple) else (how,)
    with redis.Redis.from_url(server.url) as client:
        for command in commands:
            client.execute_command(*(RECORD + task_id if part == "KEY" else part for part in command))


# Damage to the record of a pending task.
WAITING = {
    "another type": (("DEL", "KEY"), ("SET", "KEY", "text")),
    "a list": (("DEL", "KEY"), ("RPUSH", "KEY", "a", "b")),
    "gone": ("DEL", "KEY"),
    "empty but for one field": (("DEL", "KEY"), ("HSET", "KEY", "owner", OWNER)),
    "no owner": ("HDEL", "KEY", "owner"),
    "no status": ("HDEL", "KEY", "status"),
    "an unknown status": ("HSET", "KEY", "status", "done"),
    "a status that is no text": ("HSET", "KEY", "status", b"\xff\xfe"),
    "no deadline": ("HDEL", "KEY", "deadline"),
    "a deadline that is no number": ("HSET", "KEY", "deadline", "soon"),
    "a deadline without end": ("HSET", "KEY", "deadline", "9" * 400),
    "no attempts": ("HDEL", "KEY", "attempts"),
    "attempts that are no number": ("HSET", "KEY", "attempts", "many"),
    "attempts beyond a number": ("HSET", "KEY", "attempts", "9223372036854775807"),
    "no message": ("HDEL", "KEY", "message"),
    "a message that is no text": ("HSET", "KEY", "message", b"\xff\xfe\x00"),
}
# Damage to the record of a finished task, which its owner's list still refers to.
ENDED = {
    "another type": WAITING["another type"],
    "no created": ("HDEL", "KEY", "created"),
    "a time that is none": ("HSET", "KEY", "created", "9" * 30),
    "a time beyond numbers": ("HSET", "KEY", "finished", "9" * 5000),
    "a negative time": ("HSET", "KEY", "started", "-99999999999999"),
    "JSON that is broken": ("HSET", "KEY", "result", '{"response": '),
    "JSON that is no object": ("HSET", "KEY", "result", "[1]"),
    "an object without fields": ("HSET", "KEY", "result", "{}"),
    "fields of another type": ("HSET", "KEY", "result", '{"response": 1, "tokens_used": "many"}'),
    "a reason that is none": ("HSET", "KEY", "result", '{"response": "a", "tokens_used": 1, "stop_reason": []}'),
    "half a character": ("HSET", "KEY", "result", '{"response": "\\ud800", "tokens_used": 1}'),
    "no UTF-8": ("HSET", "KEY", "result", b'{"response": "\xff", "tokens_used": 1}'),
    "an error that is none": ("HSET", "KEY", "error", '"text"'),
    "a deep error": ("HSET", "KEY", "error", "[" * 100_000),
    "attempts that are no number": WAITING["attempts that are no number"],
    "an unknown status": WAITING["an unknown status"],
}


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Tasks]:
    server = Redis(redis_server.url, prefix="portside")
    yield Tasks(server, max_attempts=3, deadline_seconds=600, result_ttl_seconds=60, queue_limit=100)
    await server.close()


async def status_of(client: httpx.AsyncClient, task_id: str) -> str | None:
    answer = await client.get(f"/tasks/{task_id}")
    return answer.json()["status"] if answer.status_code == 200 else None


@pytest.mark.parametrize("how", WAITING.values(), ids=WAITING)
async def test_workers_continue_past_a_task_with_a_damaged_record(
    make_client: MakeClient, redis_server: RedisServer, store: Tasks, how: tuple[Any, ...]
) -> None:
    (damaged, _), (sound, _) = await store.submit(OWNER, "damaged"), await store.submit(OWNER, "sound")
    damage(redis_server, damaged, how)
    client = await keyed(make_client, model_provider="echo", api_runs_tasks=True)

    async def done() -> bool:
        return await status_of(client, sound) == "completed"

    await eventually_async(done, "the other task is done")
    later = await submit(client, "later")

    async def later_done() -> bool:
        return await status_of(client, later) == "completed"

    await eventually_async(later_done, "later tasks are completed")
    listed = await client.get("/tasks")
    assert listed.status_code == 200
    assert {sound, later} <= {task["task_id"] for task in listed.json()["tasks"]}
    assert (await client.delete(f"/tasks/{damaged}")).status_code in {200, 404}
    assert (await client.post("/tasks", json={"message": "more"})).status_code == 202


@pytest.mark.parametrize("how", ENDED.values(), ids=ENDED)
async def test_a_list_skips_and_logs_a_damaged_record(
    make_client: MakeClient,
    redis_server: RedisServer,
    how: tuple[Any, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = await keyed(make_client, model_provider="echo", api_runs_tasks=True)
    ids = [await submit(client, f"task {number}") for number in range(3)]

    async def done() -> bool:
        return all([await status_of(client, task_id) == "completed" for task_id in ids])

    await eventually_async(done, "all are done")
    damage(redis_server, ids[1], how)
    listed = await client.get("/tasks")
    assert listed.status_code == 200
    assert [task["task_id"] for task in listed.json()["tasks"]] == [ids[2], ids[0]]
    assert (await client.get(f"/tasks/{ids[1]}")).status_code == 404
    assert ids[1] in capsys.readouterr().out
    metrics = (await client.get("/metrics")).text
    [line] = [line for line in metrics.splitlines() if line.startswith("agent_damaged_records_total ")]
    assert float(line.rsplit(" ", 1)[1]) >= 2


async def test_a_task_whose_message_cannot_be_read_fails_with_an_error_code(
    make_client: MakeClient, redis_server: RedisServer, store: Tasks
) -> None:
    task_id, _ = await store.submit(OWNER, "damaged")
    damage(redis_server, task_id, WAITING["a message that is no text"])
    client = await keyed(make_client, model_provider="echo", api_runs_tasks=True)

    async def failed() -> bool:
        return await status_of(client, task_id) == "failed"

    await eventually_async(failed, "it fails")
    assert (await client.get(f"/tasks/{task_id}")).json()["error"]["code"] == "damaged"


@pytest.mark.parametrize("key", ["heard", f"of:{OWNER}:pending", f"of:{OWNER}:all", "throttled"])
async def test_workers_continue_while_another_key_has_the_wrong_type(
    make_client: MakeClient, redis_server: RedisServer, store: Tasks, key: str
) -> None:
    """Every key except the queue itself, on which the workers depend."""
    task_id, _ = await store.submit(OWNER, "hello")
    name = f"{{portside}}:task:{key}"
    redis_server.command("DEL", name)
    redis_server.command("HSET" if key == "throttled" else "SET", name, *(["step"] if key == "throttled" else []), "x")
    client = await keyed(make_client, model_provider="echo", api_runs_tasks=True)

    async def done() -> bool:
        return await status_of(client, task_id) == "completed"

    await eventually_async(done, "the task is done")
    assert (await client.get("/tasks")).status_code == 200


async def test_the_lease_of_a_damaged_record_is_not_renewed_and_blocks_no_other_lease(
    redis_server: RedisServer, store: Tasks
) -> None:
    for number in range(3):
        await store.submit(OWNER, f"task {number}")
    claims = await store.claim(3)
    damage(redis_server, claims[1].id, WAITING["another type"])
    assert await store.renew(claims) == [claims[1]]
    await store.complete(claims[1], {"response": "a", "tokens_used": 1})
    for claim in (claims[0], claims[2]):
        await store.complete(claim, {"response": json.dumps(claim.message), "tokens_used": 1})
        found = await store.get(OWNER, claim.id)
        assert found is not None
        assert found.status == "completed"
