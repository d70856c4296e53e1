"""Redis changes its role, or its user lacks permissions: what is lost, and what health shows."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient

from agent_service.state.redis import Redis
from agent_service.state.redis_errors import StateUnavailableError
from support.agent import MakeClient
from support.eventually import eventually, eventually_async
from support.redis_server import RedisServer, running_redis
from support.redis_server.forward import Forward, forwarding

pytestmark = pytest.mark.timing


# Synchronize a replica at once, without the delay in which more replicas could join.
AT_ONCE = ("--repl-diskless-sync-delay", "0")


@pytest.fixture
def two_servers(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer, Forward]]:
    """Yield a master, its replica, and the address that forwards to the master."""
    folders = tmp_path / "first", tmp_path / "second"
    for folder in folders:
        folder.mkdir()
    with (
        running_redis(folders[0], *AT_ONCE) as first,
        running_redis(folders[1]) as second,
        forwarding(first.port) as forward,
    ):
        second.command("REPLICAOF", "127.0.0.1", str(first.port))
        eventually(lambda: b"master_link_status:up" in second.command("INFO", "replication"), "the replica is in sync")
        yield first, second, forward


async def submit(client: AsyncClient, number: int) -> str | None:
    """Submit a task until it is accepted; return its id."""
    for _ in range(200):
        answer = await client.post(
            "/tasks", json={"message": f"task {number}"}, headers={"Idempotency-Key": f"key-{number}"}
        )
        if answer.status_code == 202:
            task_id: str = answer.json()["task_id"]
            return task_id
        assert answer.status_code == 503, answer.text
        await asyncio.sleep(0.05)
    return None


async def completed(client: AsyncClient, task_id: str) -> bool:
    answer = await client.get(f"/tasks/{task_id}")
    return answer.status_code == 200 and bool(answer.json()["status"] == "completed")


def fail_over(first: RedisServer, second: RedisServer, forward: Forward) -> None:
    """Swap the roles of master and replica; the address follows, and no connection is closed."""
    forward.target = second.port
    # Redis refuses it until the replica is online.
    eventually(
        lambda: first.command("FAILOVER", "TO", "127.0.0.1", str(second.port)).startswith(b"+OK"),
        "the failover starts",
    )


@pytest.mark.parametrize("stale", ["yes", "no"])
async def test_after_a_failover_that_keeps_connections_open_nothing_accepted_is_lost(
    make_client: MakeClient, two_servers: tuple[RedisServer, RedisServer, Forward], stale: str
) -> None:
    first, second, forward = two_servers
    first.command("CONFIG", "SET", "replica-serve-stale-data", stale)
    client = await make_client(redis_url=forward.url, api_runs_tasks=True)
    conversation = (await client.post("/chat", json={"message": "hello"})).json()["conversation_id"]
    before = [await submit(client, number) for number in range(5)]
    fail_over(first, second, forward)
    during = await asyncio.gather(*(submit(client, number) for number in range(5, 25)))
    tasks = [*before, *during]
    assert all(tasks)

    async def all_completed() -> bool:
        return all([await completed(client, task_id) for task_id in tasks if task_id])

    await eventually_async(all_completed, "each task that was accepted is done")
    attempts = [(await client.get(f"/tasks/{task_id}")).json()["attempts"] for task_id in tasks]
    assert len(set(tasks)) == len(tasks)
    assert max(attempts) <= 2
    answer = await client.post("/chat", json={"message": "and now?", "conversation_id": conversation})
    assert answer.json()["conversation_id"] == conversation
    assert "warning" not in answer.json()
    assert b"role:master" in second.command("INFO", "replication")


async def test_a_command_sent_to_the_old_master_is_retried_on_the_new_one(
    two_servers: tuple[RedisServer, RedisServer, Forward],
) -> None:
    first, second, forward = two_servers
    redis = Redis(forward.url, prefix="test")
    async with closing(redis):
        await redis.call("SET", "a", 1)
        fail_over(first, second, forward)
        eventually(lambda: b"role:slave" in first.command("INFO", "replication"), "the first server is a replica")
        # During the switch neither server is the master, and a command is retried only once.
        eventually(lambda: b"role:master" in second.command("INFO", "replication"), "the second server is the primary")
        await redis.call("SET", "a", 2)
        assert await redis.call("GET", "a") == b"2"


async def test_a_permanent_replica_does_not_cause_a_reconnect_for_each_command(
    two_servers: tuple[RedisServer, RedisServer, Forward],
) -> None:
    _, second, forward = two_servers
    forward.target = second.port
    redis = Redis(forward.url, prefix="test")
    async with closing(redis):
        refused = await asyncio.gather(*(redis.call("SET", "a", n) for n in range(500)), return_exceptions=True)
        assert {error.reason for error in refused if isinstance(error, StateUnavailableError)} == {"read_only"}
        assert len(refused) == 500
        assert forward.connections < 30


@asynccontextmanager
async def closing(redis: Redis) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        stack.push_async_callback(redis.close)
        yield


async def await_state(client: AsyncClient, status: str, reason: str | None) -> str:
    """Wait until health shows this state of Redis; return the detail. A busy machine may first show a timeout."""
    found: dict[str, Any] = {}

    async def known() -> bool:
        found.update((await client.get("/health")).json()["components"]["redis"])
        return (found["status"], found["kind"]) == (status, reason)

    await eventually_async(known, f"Redis is {status} ({reason})")
    return str(found["detail"])


def user(redis: RedisServer, *rights: str) -> str:
    """Create a user with these ACL rules; return the URL to connect as that user."""
    assert redis.command("ACL", "SETUSER", "agent", "reset", "on", ">password", *rights).startswith(b"+OK")
    return redis.url.replace("://", "://agent:password@")


async def test_tasks_of_a_user_without_channel_permissions_are_accepted_once_and_completed(
    make_client: MakeClient, redis_server: RedisServer
) -> None:
    client = await make_client(redis_url=user(redis_server, "~*", "resetchannels", "+@all"), api_runs_tasks=True)
    answer = await client.post("/tasks", json={"message": "hello"}, headers={"Idempotency-Key": "one"})
    assert answer.status_code == 202
    task_id = answer.json()["task_id"]
    await eventually_async(lambda: completed(client, task_id), "the task is done")
    assert (await client.get(f"/tasks/{task_id}")).json()["attempts"] == 1
    again = await client.post("/tasks", json={"message": "hello"}, headers={"Idempotency-Key": "one"})
    assert again.json()["task_id"] == task_id
    other = (await client.post("/tasks", json={"message": "other"})).json()["task_id"]
    assert (await client.delete(f"/tasks/{other}")).status_code == 200
    assert "PUBLISH" in await await_state(client, "down", "not_permitted")


@pytest.mark.parametrize(
    ("rights", "named"),
    [
        (("~*", "&*", "+@all", "-zadd"), "ZADD"),
        (("~*", "&*", "+@all", "-ltrim"), "LTRIM"),
        (("~{portside}:health", "~{portside}:task:*", "~{portside}:conversation:*", "&*", "+@all"), "keys of budgets"),
        (("~*", "&*", "+@all", "-eval", "-evalsha"), "lacks a permission"),
        (("~other:*", "&*", "+@all"), "lacks a permission"),
        (("~*", "&{portside}:task:news", "+@all"), "PUBLISH"),
    ],
)
async def test_health_names_the_missing_permission_of_the_user(
    make_client: MakeClient, redis_server: RedisServer, rights: tuple[str, ...], named: str
) -> None:
    client = await make_client(redis_url=user(redis_server, *rights))
    assert named in await await_state(client, "down", "not_permitted")


async def test_the_documented_minimum_permissions_are_sufficient(
    make_client: MakeClient, redis_server: RedisServer
) -> None:
    url = user(redis_server, "~{portside}:*", "&{portside}:*", "+@all", "-@dangerous", "-@admin")
    client = await make_client(redis_url=url, api_runs_tasks=True, tokens_per_minute=1_000_000, rate_limit_requests=100)
    await await_state(client, "up", None)
    task_id = await submit(client, 1)
    assert task_id
    await eventually_async(lambda: completed(client, task_id), "the task is done")
    assert "warning" not in (await client.post("/chat", json={"message": "hello"})).json()


REFUSALS = {
    "full": (("CONFIG", "SET", "maxmemory", "1"),),
    "read_only": (("REPLICAOF", "127.0.0.1", "1"),),
    "wrong_password": (("CONFIG", "SET", "requirepass", "s3cret"), ("CLIENT", "KILL", "TYPE", "normal")),
}


@pytest.mark.parametrize("reason", REFUSALS)
async def test_health_distinguishes_the_reasons_why_redis_refuses(
    make_client: MakeClient, tmp_path: Path, reason: str
) -> None:
    with running_redis(tmp_path) as redis:
        for command in REFUSALS[reason]:
            redis.command(*command)
        client = await make_client(redis_url=redis.url)
        detail = await await_state(client, "down", reason)
        answer = await client.post("/tasks", json={"message": "hello"})
        assert answer.status_code == 503
        assert "s3cret" not in answer.text + detail


async def test_a_cluster_with_the_keys_on_another_server_is_reported_as_a_cluster(
    make_client: MakeClient, tmp_path: Path
) -> None:
    with running_redis(tmp_path, "--cluster-enabled", "yes") as redis:
        client = await make_client(redis_url=redis.url)
        await await_state(client, "down", "cluster")
        assert (await client.post("/tasks", json={"message": "hello"})).status_code == 503


async def test_a_cluster_of_one_server_with_all_slots_works(make_client: MakeClient, tmp_path: Path) -> None:
    with running_redis(tmp_path, "--cluster-enabled", "yes") as redis:
        redis.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        eventually(lambda: b"cluster_state:ok" in redis.command("CLUSTER", "INFO"), "the cluster is up")
        client = await make_client(redis_url=redis.url, api_runs_tasks=True)
        task_id = await submit(client, 1)
        assert task_id
        await eventually_async(lambda: completed(client, task_id), "the task is done")
        await await_state(client, "up", None)


async def test_a_server_that_is_loading_its_data_is_retried(tmp_path: Path) -> None:
    """LOADING is one of the reasons that pass by themselves; `DEBUG SLEEP` would only make the server slow."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(replies[0])
        writer.close()

    replies = [b"-LOADING Redis is loading the dataset in memory\r\n"]
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        redis = Redis(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", prefix="test")
        async with closing(redis):
            with pytest.raises(StateUnavailableError) as raised:
                await redis.call("GET", "a")
            assert raised.value.reason == "loading"
            replies[0] = b"$1\r\n1\r\n"

            async def back() -> bool:
                try:
                    return bool(await redis.call("GET", "a") == b"1")
                except StateUnavailableError:
                    return False

            await eventually_async(back, "the server that has loaded its data is used")
