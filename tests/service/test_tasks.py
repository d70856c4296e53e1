"""Background tasks as a client sees them; the process of the API runs them."""

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_service.state.redis import Redis
from agent_service.tasks.queue import TOO_LATE, Tasks
from agent_service.tasks.record import Status
from service.task_client import OWNER, keyed, submit
from stand_in import StandIn, asking
from support.agent import MakeClient, StartService
from support.eventually import eventually, eventually_async
from support.redis_server import RedisServer, running_redis

pytestmark = pytest.mark.timing

NEVER = "00000000-0000-7000-8000-000000000000"


async def accepted(tasks: Tasks, start: int, number: int) -> list[str]:
    given = await asyncio.gather(*(tasks.submit(OWNER, f"task {start + each}") for each in range(number)))
    return [task_id for task_id, _ in given]


@asynccontextmanager
async def queue(redis_server: RedisServer, deadline_seconds: float = 600) -> AsyncIterator[Tasks]:
    """Yield the queue of the same agent, with a deadline for each task that is submitted to it."""
    store = Redis(redis_server.url, prefix="portside")
    try:
        yield Tasks(store, max_attempts=5, deadline_seconds=deadline_seconds, result_ttl_seconds=60, queue_limit=1000)
    finally:
        await store.close()


@pytest.fixture
async def tasks(redis_server: RedisServer) -> AsyncIterator[Tasks]:
    """Yield the queue of the same agent."""
    async with queue(redis_server) as found:
        yield found


async def look_up(client: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    answer = await client.get(f"/tasks/{task_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def ended(client: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        task = await look_up(client, task_id)
        return task if task["status"] in {"completed", "failed"} else None

    found: dict[str, Any] = await eventually_async(look, f"task {task_id} ends")
    return found


async def test_a_task_is_answered_in_the_background(make_client: MakeClient) -> None:
    client = await make_client(api_runs_tasks=True, system_prompt="Be kind.")
    accepted_as = await client.post("/tasks", json={"message": "hello there"})
    assert accepted_as.json()["status"] == "pending"
    task = await ended(client, accepted_as.json()["task_id"])
    assert task["status"] == "completed"
    assert task["result"]["response"].startswith('Stand-in heard "hello there"')
    assert "Be kind." in task["result"]["response"]
    assert task["result"]["tokens_used"] > 0
    assert task["error"] is None
    assert task["attempts"] == 1
    assert task["created_at"] <= task["started_at"] <= task["finished_at"]


async def test_a_transient_failure_is_retried(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client(api_runs_tasks=True, model_max_retries=0)
    task = await ended(client, await submit(client, asking("please", fault=529, times=2, id="again")))
    assert (task["status"], task["attempts"]) == ("completed", 3)


async def test_the_next_attempt_waits_for_retry_after(make_client: MakeClient) -> None:
    client = await make_client(api_runs_tasks=True, model_max_retries=0)
    task = await ended(client, await submit(client, asking(fault=429, retry_after=3, times=1, id="wait")))
    assert (task["status"], task["attempts"]) == ("completed", 2)
    started, finished = (datetime.fromisoformat(task[name]) for name in ("started_at", "finished_at"))
    assert (finished - started).total_seconds() >= 3


async def test_a_task_with_refused_credentials_succeeds_after_they_are_corrected(
    make_client: MakeClient, stand_in: StandIn
) -> None:
    client = await make_client(api_runs_tasks=True, model_max_retries=0)
    stand_in.behave(fault=401)
    task_id = await submit(client, "hello")

    async def failed_once() -> bool:
        task = await look_up(client, task_id)
        return bool(task["status"] == "pending" and task["attempts"] == 1)

    await eventually_async(failed_once, "the first attempt fails")
    stand_in.behave()
    assert (await ended(client, task_id))["status"] == "completed"


async def test_a_task_that_fails_too_often_is_failed_with_the_reason(make_client: MakeClient) -> None:
    client = await make_client(api_runs_tasks=True, model_max_retries=0, task_max_attempts=2)
    task = await ended(client, await submit(client, asking(fault=500)))
    assert (task["status"], task["attempts"], task["error"]["code"]) == ("failed", 2, "failed")
    assert task["result"] is None


async def test_a_permanent_failure_is_not_retried(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client(api_runs_tasks=True)
    task = await ended(client, await submit(client, asking(refusal=True)))
    assert (task["status"], task["attempts"], task["error"]["code"]) == ("failed", 1, "declined")


async def test_an_attempt_has_a_timeout_and_a_task_has_a_deadline(make_client: MakeClient) -> None:
    client = await make_client(api_runs_tasks=True, task_timeout_seconds=0.3, task_max_attempts=1)
    assert (await ended(client, await submit(client, asking(stall=30))))["error"]["code"] == "timed_out"
    client = await make_client(api_runs_tasks=True, task_deadline_seconds=0.5, state_prefix="other")
    assert (await ended(client, await submit(client, asking(stall=30))))["error"]["code"] == "deadline_exceeded"


async def test_a_task_that_waits_past_its_deadline_is_not_started(make_client: MakeClient, stand_in: StandIn) -> None:
    waits = await make_client(task_deadline_seconds=0.2)
    task_id = await submit(waits, "too late")
    await asyncio.sleep(0.3)
    works = await make_client(api_runs_tasks=True)
    task = await ended(works, task_id)
    assert (task["error"]["code"], task["attempts"]) == ("deadline_exceeded", 0)
    assert stand_in.requests() == []


async def test_cancelling_a_running_task_ends_the_model_call(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client(api_runs_tasks=True)
    task_id = await submit(client, asking("never mind", stall=30))

    async def states() -> list[str]:
        return [seen["state"] for seen in await asyncio.to_thread(stand_in.requests)]

    await eventually_async(states, "the model is asked")
    assert (await look_up(client, task_id))["status"] == "running"
    cancelled = await client.delete(f"/tasks/{task_id}")
    assert cancelled.status_code == 200
    assert (cancelled.json()["status"], cancelled.json()["error"]["code"]) == ("failed", "cancelled")

    async def left() -> bool:
        return await states() == ["disconnected"]

    await eventually_async(left, "the model call ends")
    assert (await client.delete(f"/tasks/{task_id}")).json() == cancelled.json()


async def test_a_cancelled_pending_task_is_never_started(make_client: MakeClient, stand_in: StandIn) -> None:
    waits = await make_client()
    task_id = await submit(waits, "not this one")
    assert (await waits.delete(f"/tasks/{task_id}")).json()["error"]["code"] == "cancelled"
    works = await make_client(api_runs_tasks=True)
    assert (await ended(works, await submit(works, "this one")))["status"] == "completed"
    assert [seen["message"] for seen in stand_in.requests()] == ["this one"]


async def test_a_finished_task_cannot_be_cancelled(make_client: MakeClient) -> None:
    client = await make_client(api_runs_tasks=True)
    task = await ended(client, await submit(client, "hello"))
    assert (await client.delete(f"/tasks/{task['task_id']}")).json() == task


async def test_a_result_is_deleted_after_its_ttl(make_client: MakeClient, redis_server: RedisServer) -> None:
    client = await keyed(make_client, api_runs_tasks=True, task_result_ttl_seconds=1)
    task_id = (await ended(client, await submit(client, "hello")))["task_id"]

    async def gone() -> bool:
        listed = (await client.get("/tasks")).json()["tasks"]
        return (await client.get(f"/tasks/{task_id}")).status_code == 404 and listed == []

    await eventually_async(gone, "the task is forgotten")

    async def nothing_left() -> bool:
        return b"$" not in redis_server.command("KEYS", "{portside}:task:[^h]*")

    await eventually_async(nothing_left, "no key of it is left")
    assert redis_server.command("KEYS", "{portside}:task*").splitlines()[2::2] == [b"{portside}:task:heard"]


async def test_tasks_are_listed_newest_first_and_by_status(make_client: MakeClient) -> None:
    client = await keyed(make_client)
    ids = [await submit(client, f"task {number}") for number in range(5)]
    await client.delete(f"/tasks/{ids[2]}")
    pages = [(await client.get("/tasks", params={"limit": 2})).json()]
    while cursor := pages[-1]["next_cursor"]:
        pages.append((await client.get("/tasks", params={"limit": 2, "cursor": cursor})).json())
    listed = [task["task_id"] for page in pages for task in page["tasks"]]
    assert listed == sorted(ids, reverse=True)
    assert [len(page["tasks"]) for page in pages] == [2, 2, 1]
    assert (await client.get("/tasks", params={"limit": 5})).json()["next_cursor"] is None
    failed = (await client.get("/tasks", params={"status": "failed"})).json()["tasks"]
    assert [task["task_id"] for task in failed] == [ids[2]]
    assert len((await client.get("/tasks", params={"status": "pending"})).json()["tasks"]) == 4


async def test_ten_thousand_tasks_are_listed_once_each_while_a_new_one_arrives(
    make_client: MakeClient, redis_server: RedisServer
) -> None:
    client = await keyed(make_client)
    redis = Redis(redis_server.url, prefix="portside")
    tasks = Tasks(redis, max_attempts=1, deadline_seconds=600, result_ttl_seconds=60, queue_limit=100_000)
    ids: list[str] = []
    for start in range(0, 10_050, 150):
        ids += await accepted(tasks, start, 150)
    listed: list[str] = []
    cursor: dict[str, str] = {}
    for page in itertools.count():
        answer = (await client.get("/tasks", params={"limit": 100, **cursor})).json()
        listed += [task["task_id"] for task in answer["tasks"]]
        if page == 50:
            await submit(client, "one more")
        if answer["next_cursor"] is None:
            break
        cursor = {"cursor": answer["next_cursor"]}
    assert listed == sorted(ids, reverse=True)
    await redis.close()


async def test_the_same_idempotency_key_returns_the_same_task(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client(api_runs_tasks=True)
    key = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
    ids = {await submit(client, "only once", **key) for _ in range(5)}
    assert len(ids) == 1
    await ended(client, ids.pop())
    again = await client.post("/tasks", json={"message": "only once"}, headers=key)
    assert (again.status_code, again.json()["status"]) == (202, "completed")
    assert len(stand_in.requests()) == 1
    other = await client.post("/tasks", json={"message": "something else"}, headers=key)
    assert other.status_code == 409
    assert "idempotency key" in other.json()["detail"]
    for hostile in (b"", b" ", b"a b", b"a" * 256, b"\xc3\xa9"):
        refused = await client.post("/tasks", json={"message": "only once"}, headers={b"Idempotency-Key": hostile})
        assert refused.status_code == 422


async def test_idempotency_keys_are_separate_for_each_owner(make_client: MakeClient) -> None:
    client = await make_client(API_KEYS=f"{'a' * 20},{'e' * 20}")
    ids = {await submit(client, "mine", **{"X-API-Key": owner * 20, "Idempotency-Key": "1"}) for owner in "ae"}
    assert len(ids) == 2


async def test_tasks_belong_to_the_key_that_sent_them(make_client: MakeClient) -> None:
    ada, eve = {"X-API-Key": "a" * 20}, {"X-API-Key": "e" * 20}
    client = await make_client(API_KEYS=f"{'a' * 20},{'e' * 20}")
    task_id = await submit(client, "mine", **ada)
    assert (await client.get(f"/tasks/{task_id}", headers=ada)).status_code == 200
    assert (await client.get(f"/tasks/{task_id}", headers=eve)).status_code == 404
    assert (await client.delete(f"/tasks/{task_id}", headers=eve)).status_code == 404
    assert (await client.get("/tasks", headers=eve)).json()["tasks"] == []
    assert (await client.get(f"/tasks/{task_id}", headers=ada)).json()["status"] == "pending"
    assert (await client.get("/tasks")).status_code == 401


async def test_without_client_keys_tasks_are_not_listed_and_the_id_grants_access(make_client: MakeClient) -> None:
    client = await make_client()
    ids = [await submit(client, f"of visitor {number}") for number in range(3)]
    for query in ("", "?status=pending", "?limit=100", f"?cursor={ids[0]}"):
        listed = await client.get(f"/tasks{query}")
        assert listed.status_code == 403
        assert not any(task_id in listed.text for task_id in ids)
    assert "client keys" in listed.json()["detail"]
    assert (await look_up(client, ids[0]))["status"] == "pending"
    guessed = f"{ids[1][:-1]}{'0' if ids[1][-1] != '0' else '1'}"
    assert (await client.delete(f"/tasks/{guessed}")).status_code == 404
    assert (await client.delete(f"/tasks/{ids[1]}")).json()["error"]["code"] == "cancelled"
    assert (await look_up(client, ids[2]))["status"] == "pending"


async def test_a_task_id_is_random_apart_from_its_timestamp(make_client: MakeClient) -> None:
    client = await make_client()
    ids = [(await submit(client, "hello")).replace("-", "") for _ in range(50)]
    # RFC 9562, version 7: 12 digits of time, the version, 3 digits of time, and the variant; the rest must be random.
    drawn = [task_id[17:] for task_id in ids]
    for place in range(len(drawn[0])):
        assert len({each[place] for each in drawn}) > 4, f"digit {place} hardly varies"


async def test_task_ids_sort_by_the_time_of_acceptance_also_within_a_millisecond(redis_server: RedisServer) -> None:
    store = Redis(redis_server.url, prefix="portside")
    tasks = Tasks(store, max_attempts=2, deadline_seconds=600, result_ttl_seconds=60, queue_limit=10_000)
    # Of one connection, so Redis takes them in this order; many in each millisecond.
    accepted = await asyncio.gather(*(tasks.accept("web", str(number)) for number in range(1000)))
    order = {task.id: number for number, task in enumerate(accepted)}
    claimed = [claim.message for claim in await tasks.claim(1000)]
    await store.close()
    assert len({task_id[:13] for task_id in order}) < len(order), "several have the same millisecond"
    assert [int(message) for message in claimed] == [order[task_id] for task_id in sorted(order)]
    assert claimed == [str(number) for number in range(1000)]


async def test_a_task_over_the_queue_limit_is_503(make_client: MakeClient) -> None:
    client = await make_client(task_queue_limit=2)
    for _ in range(2):
        await submit(client, "hello")
    answer = await client.post("/tasks", json={"message": "one too many"})
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"{}", b'{"message":""}', b'{"message":"a","x":1}', json.dumps({"message": "\0"}).encode()]
)
async def test_hostile_input_is_422(make_client: MakeClient, content: bytes) -> None:
    client = await make_client()
    answer = await client.post("/tasks", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


@pytest.mark.parametrize("task_id", [NEVER, "x", "%00", "a" * 100, "*", "ready", "failed", "of:anyone:all"])
async def test_an_unknown_task_is_404(make_client: MakeClient, task_id: str) -> None:
    client = await make_client()
    await submit(client, "waits")
    await client.delete(f"/tasks/{await submit(client, 'has ended')}")
    assert (await client.get(f"/tasks/{task_id}")).status_code == 404
    assert (await client.delete(f"/tasks/{task_id}")).status_code == 404


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "status=done", "cursor=x", "cursor=%00"])
async def test_an_invalid_query_is_422(make_client: MakeClient, query: str) -> None:
    client = await make_client()
    assert (await client.get(f"/tasks?{query}")).status_code == 422


async def test_tasks_are_503_while_redis_is_down_and_work_continues_afterwards(
    make_client: MakeClient, stand_in: StandIn, tmp_path: Path
) -> None:
    with running_redis(tmp_path) as server:
        client = await keyed(make_client, redis_url=server.url, api_runs_tasks=True)
        running = await submit(client, asking("through the outage", hold="outage"))

        async def runs() -> bool:
            return bool((await look_up(client, running))["status"] == "running")

        await eventually_async(runs, "the task runs")
        server.stop()
        for answer in (
            await client.post("/tasks", json={"message": "hello"}),
            await client.get("/tasks"),
            await client.get(f"/tasks/{NEVER}"),
            await client.delete(f"/tasks/{NEVER}"),
        ):
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
        server.start()

        async def back() -> bool:
            return (await client.get("/tasks")).status_code == 200

        await eventually_async(back, "Redis is back")
        await asyncio.to_thread(stand_in.release, "outage")
        task = await ended(client, running)
        assert (task["status"], task["attempts"]) == ("completed", 1)
        assert (await ended(client, await submit(client, "afterwards")))["status"] == "completed"


async def test_a_record_missing_from_redis_does_not_block_other_tasks(
    make_client: MakeClient, redis_server: RedisServer
) -> None:
    waits = await make_client()
    gone = await submit(waits, "hello")
    for key in redis_server.command("KEYS", f"*{gone}").decode().splitlines()[2::2]:
        assert redis_server.command("DEL", key) == b":1\r\n"
    redis_server.command("ZADD", "{portside}:task:leases", "1", NEVER)
    works = await make_client(api_runs_tasks=True)
    assert (await ended(works, await submit(works, "hello")))["status"] == "completed"
    assert (await works.get(f"/tasks/{gone}")).status_code == 404
    assert redis_server.command("ZCARD", "{portside}:task:ready") == b":0\r\n"
    assert redis_server.command("ZCARD", "{portside}:task:leases") == b":0\r\n"


async def test_the_state_of_the_queue_is_in_health_and_metrics(make_client: MakeClient) -> None:
    client = await make_client(api_runs_tasks=True)
    await ended(client, await submit(client, "hello"))

    async def counted() -> bool:
        text = (await client.get("/metrics")).text
        return 'agent_tasks{state="completed"} 1.0' in text and "agent_task_queue_depth 0.0" in text

    await eventually_async(counted, "the metrics show it")
    assert "0 tasks are pending" in (await client.get("/health")).json()["components"]["queue"]["detail"]


async def test_no_task_is_dispatched_while_the_model_api_throttles(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client(api_runs_tasks=True, model_max_retries=0, worker_concurrency=1)
    throttled = await submit(client, asking("first", fault=429, retry_after=8, times=1, id="away"))

    async def waits_again() -> bool:
        found = await look_up(client, throttled)
        return (found["status"], found["attempts"]) == ("pending", 1)

    await eventually_async(waits_again, "it is throttled")
    held = [await submit(client, f"held {number}") for number in range(3)]

    async def counted() -> bool:
        text = (await client.get("/metrics")).text
        return "agent_task_queue_depth 4.0" in text and "agent_tasks_due 0.0" in text

    await eventually_async(counted, "four tasks wait, none of them is due")
    assert len(stand_in.requests()) == 1, "the model API receives no call meanwhile"
    for task_id in held:
        assert (await ended(client, task_id))["attempts"] == 1
    assert (await ended(client, throttled))["status"] == "completed"


async def test_without_retry_after_the_pause_grows_with_each_attempt(
    make_client: MakeClient, stand_in: StandIn, tasks: Tasks
) -> None:
    client = await make_client(api_runs_tasks=True, model_max_retries=0, worker_concurrency=4)
    stand_in.behave(fault=529)
    ids = [await submit(client, f"number {number}") for number in range(40)]

    async def throttled() -> bool:
        return bool(stand_in.requests()) and await tasks.due() == 0

    await eventually_async(throttled, "it is throttled")
    for _ in range(80):
        assert await tasks.due() == 0, "another worker would not help, not even between two attempts"
        await asyncio.sleep(0.1)
    assert len(stand_in.requests()) <= 4 + 5, "one task probes for all, after 1, 2 and 4 seconds"
    stand_in.behave()
    for task_id in ids:
        assert (await ended(client, task_id))["status"] == "completed"


async def test_a_dispatch_pause_is_never_shortened(redis_server: RedisServer, tasks: Tasks) -> None:
    def milliseconds() -> int:
        return int(redis_server.command("PTTL", "{portside}:task:held")[1:])

    for _ in range(8):
        await tasks.hold(0)
    assert milliseconds() <= 1000, "those that were under way together count once"
    await tasks.hold(50)
    await tasks.hold(0)
    assert milliseconds() > 45_000
    await tasks.hold(3600)
    assert 55_000 < milliseconds() <= 60_000


async def test_a_task_dispatched_before_the_pause_does_not_end_it(tasks: Tasks) -> None:
    for number in range(3):
        await tasks.submit("anyone", f"number {number}")
    early, refused = await tasks.claim(2)
    await tasks.hold(0)
    await tasks.retry(refused, TOO_LATE, after_seconds=60)
    await tasks.resume(early)
    await tasks.complete(early, {})
    assert await tasks.claim(2) == []
    [probe] = await eventually_async(lambda: tasks.claim(2), "one is given out after a while")
    assert (early.probe, probe.probe) == (False, True)
    assert await tasks.due() == 0
    await tasks.complete(probe, {})
    await tasks.submit("anyone", "one more")
    assert await tasks.due() == 1


async def test_a_task_reassigned_to_another_worker_does_not_end_the_pause(tasks: Tasks) -> None:
    await tasks.submit("anyone", "hello")
    await tasks.hold(0)
    [lost] = await eventually_async(lambda: tasks.claim(1), "it is given out after a while")
    await tasks.requeue(lost)
    await tasks.resume(lost)
    [probe] = await eventually_async(lambda: tasks.claim(1), "it is given out again")
    assert probe.probe
    await tasks.submit("anyone", "one more")
    assert await tasks.due() == 0
    await tasks.resume(probe)
    assert await tasks.due() == 1


async def test_the_first_token_of_an_answer_ends_the_pause(
    make_client: MakeClient, stand_in: StandIn, tasks: Tasks
) -> None:
    client = await make_client(api_runs_tasks=True, model_max_retries=0, worker_concurrency=8)
    await submit(client, asking("first", fault=429, times=1, id="once"))

    async def throttled() -> bool:
        return bool(stand_in.requests()) and await tasks.due() == 0

    await eventually_async(throttled, "it is throttled")
    for number in range(12):
        await submit(client, asking(f"number {number}", hold="all", after=1, words=60))

    async def all_are_under_way() -> bool:
        seen = await asyncio.to_thread(stand_in.requests)
        return [each["state"] for each in seen if "words" in each["message"]] == ["running"] * 8

    await eventually_async(all_are_under_way, "as many as may be are under way")
    await eventually_async(tasks.due, "a worker more could begin the others")


async def test_deadlines_are_enforced_during_a_dispatch_pause(redis_server: RedisServer) -> None:
    async with queue(redis_server, deadline_seconds=4) as tasks:
        await tasks.submit("anyone", "hello")
        task_id, _ = await tasks.submit("anyone", "hello again")
        [claim] = await tasks.claim(1)
        await tasks.hold(60)
        await tasks.requeue(claim)

        async def failed() -> bool:
            assert await tasks.claim(0) == []
            task = await tasks.get("anyone", task_id)
            assert task is not None
            return task.status == "failed" and task.error is not None and task.error["code"] == "deadline_exceeded"

        await eventually_async(failed, "it is too late")
        assert (await tasks.count())["failed"] == 2
        assert redis_server.command("ZCARD", "{portside}:task:deadlines") == b":0\r\n"


async def test_tasks_without_a_worker_are_due(make_client: MakeClient) -> None:
    client = await make_client(api_runs_tasks=False)
    for number in range(3):
        await submit(client, f"number {number}")

    async def counted() -> bool:
        return "agent_tasks_due 3.0" in (await client.get("/metrics")).text

    await eventually_async(counted, "three are due")


def test_due_tasks_are_reported_as_zero_while_redis_is_down(start_service: StartService, tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        service = start_service(MODEL_PROVIDER="echo", REDIS_URL=server.url)
        assert service.post("/tasks", message="hello").status_code == 202
        eventually(lambda: service.metric("agent_tasks_due ") == 1, "one is due")
        server.stop()
        eventually(lambda: service.metric("agent_tasks_due ") == 0, "it cannot be known, and brings no worker")


# A worker runs a few scripts in a second, whatever is submitted. A busy machine takes seconds for a hundred tasks.
FEW = 50


async def scripts_beside(redis_server: RedisServer, tasks: Tasks, submits: int) -> int:
    """Submit tasks, and return the number of scripts that other clients ran meanwhile."""

    def scripts() -> int:
        [calls] = re.findall(rb"cmdstat_evalsha:calls=(\d+)", redis_server.command("INFO", "commandstats"))
        return int(calls)

    before = scripts()
    for number in range(submits):
        await tasks.submit("anyone", f"number {number}")
    return scripts() - before - submits


async def test_a_fully_occupied_worker_does_not_check_the_queue_for_each_submitted_task(
    make_client: MakeClient, redis_server: RedisServer, tasks: Tasks
) -> None:
    client = await make_client(api_runs_tasks=True, worker_concurrency=1)
    running = await submit(client, asking(stall=60))

    async def number(status: Status) -> int:
        return (await tasks.count())[status]

    await eventually_async(lambda: number("running"), "it is running")
    assert await scripts_beside(redis_server, tasks, 100) <= FEW
    await client.delete(f"/tasks/{running}")
    await eventually_async(lambda: number("completed"), "others start when it has ended")


async def test_a_worker_without_tokens_does_not_check_the_queue_for_each_submitted_task(
    make_client: MakeClient, redis_server: RedisServer, tasks: Tasks
) -> None:
    client = await make_client(api_runs_tasks=True, tokens_per_minute=600)
    await client.post("/chat", json={"message": asking("a long one", words=700)})

    async def knows() -> bool:
        return await scripts_beside(redis_server, tasks, 20) <= 4

    await eventually_async(knows, "its last look found no tokens")
    before = (await tasks.count())["pending"]
    assert await scripts_beside(redis_server, tasks, 100) <= FEW
    assert (await tasks.count())["pending"] == before + 100


async def test_a_task_waits_until_tokens_are_available(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client(api_runs_tasks=True, tokens_per_minute=600)
    since = asyncio.get_running_loop().time()
    await client.post("/chat", json={"message": asking("a long one", words=620)})
    task_id = await submit(client, "afterwards")
    assert (await ended(client, task_id))["status"] == "completed"
    # Ten tokens refill each second, and more than twenty were missing.
    assert asyncio.get_running_loop().time() - since >= 2
