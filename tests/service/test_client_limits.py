"""Limits and budgets of each client and tenant, wherever the agent works for them; others are never affected."""

import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from prometheus_client import CollectorRegistry

from agent_service.agent.messages import Usage
from agent_service.agent.turns import Turn
from agent_service.state.redis import Redis
from agent_service.tasks.queue import Tasks
from agent_service.telemetry.caller_metrics import CallerMetrics
from stand_in import StandIn, asking
from support.agent import KEY, MakeClient, Service, StartService
from support.eventually import eventually, eventually_async
from support.mcp_agent import mcp_client, said
from support.redis_server import RedisServer, running_redis
from support.runtime_gateway import MakeGateway

pytestmark = pytest.mark.timing

WEB, BATCH, ADMIN = "key-of-the-web-client-01", "key-of-the-batch-client-1", "key-of-the-administrator-1"
KEYS = f"acme/web: {WEB}, acme/batch: {BATCH}, admin: {ADMIN}"
HELLO = {"message": "hello"}
# httpx would load the system's certificates for each request, which takes longer than the request itself.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def start(start_service: StartService, stand_in: StandIn) -> Callable[..., Service]:
    """Start an agent API with three keys in front of the stand-in, with no limit on requests."""
    common = {
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": stand_in.url,
        "RATE_LIMIT_REQUESTS": "0",
        "API_KEYS": KEYS,
    }
    return lambda **settings: start_service(**{**common, **settings})


def post(service: Service, key: str, path: str = "/chat", **body: Any) -> httpx.Response:
    return httpx.post(service.url + path, json=body or HELLO, headers=bearer(key), timeout=60, verify=NO_TLS)


def get(service: Service, key: str, path: str) -> httpx.Response:
    return httpx.get(service.url + path, headers=bearer(key), timeout=30, verify=NO_TLS)


def state(service: Service, key: str, task: dict[str, Any]) -> tuple[str, int]:
    found = get(service, key, task["status_url"]).json()
    return found["status"], found["attempts"]


def tokens(service: Service) -> int:
    """Return what the client `acme/web` has used."""
    return int(get(service, WEB, "/usage").json()["used"]["tokens"])


def used_up(service: Service, key: str) -> bool:
    return post(service, key).status_code == 429


async def test_each_client_and_tenant_has_its_own_requests_a_minute(make_client: MakeClient) -> None:
    client = await make_client(
        model_provider="echo",
        api_keys=KEYS,
        rate_limit_requests=4,
        client_rate_limit_requests=2,
        tenant_rate_limit_requests=3,
    )

    async def ask(key: str) -> httpx.Response:
        return await client.get("/tasks", headers=bearer(key))

    answers = [await ask(WEB) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["X-RateLimit-Limit"] for answer in answers] == ["2"] * 3
    assert answers[-1].json()["detail"].startswith("You may send 2 requests per minute; try again in ")
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 30
    answers = [await ask(BATCH) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert answers[-1].json()["detail"].startswith("Your tenant may send 3 requests per minute; try again in ")
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 20
    # What the limit of the tenant refused was not counted against the client.
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["1"] * 3
    assert [(await ask(ADMIN)).status_code for _ in range(3)] == [200, 200, 429]
    # Addresses still have the limit of all clients.
    unknown = await ask("key-that-no-client-has-01")
    assert (unknown.status_code, unknown.headers["X-RateLimit-Limit"]) == (401, "4")
    metrics = (await client.get("/metrics")).text
    assert 'agent_rate_limited_total{reason="tenant_requests"} 2.0' in metrics
    assert 'agent_rate_limited_total{reason="requests"} 2.0' in metrics


@pytest.mark.parametrize(
    ("setting", "whose", "reason"),
    [
        ("client_tokens_per_minute", "You have used up your 5 tokens per minute", "client_tokens"),
        ("tenant_tokens_per_minute", "Your tenant has used up its 5 tokens per minute", "tenant_tokens"),
    ],
)
async def test_each_client_and_tenant_has_its_own_tokens_a_minute(
    make_client: MakeClient, setting: str, whose: str, reason: str
) -> None:
    client = await make_client(model_provider="echo", api_keys=KEYS, **{setting: 5})

    async def ask(key: str, words: int = 1) -> httpx.Response:
        return await client.post("/chat", json={"message": "hello " * words}, headers=bearer(key))

    assert (await ask(WEB, words=100)).status_code == 200

    async def refused() -> httpx.Response | None:
        answer = await ask(WEB)
        return answer if answer.status_code == 429 else None

    answer = await eventually_async(refused, "the tokens are charged")
    assert answer.json()["detail"].startswith(f"{whose}; try again in ")
    # More than a hundred tokens, of which five are restored in a minute.
    assert int(answer.headers["Retry-After"]) > 15 * 60
    assert (await ask(BATCH)).status_code == (429 if reason == "tenant_tokens" else 200)
    assert (await ask(ADMIN)).status_code == 200
    # What needs no tokens is answered.
    assert (await client.get("/usage", headers=bearer(WEB))).status_code == 200
    assert f'agent_rate_limited_total{{reason="{reason}"}}' in (await client.get("/metrics")).text


def test_two_replicas_admit_as_many_requests_of_a_tenant_as_one(start: Callable[..., Service]) -> None:
    services = [start(TENANT_RATE_LIMIT_REQUESTS="12") for _ in range(2)]
    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        asked = [(service, key) for service in services for key in (WEB, BATCH)] * 8
        answered = list(pool.map(lambda each: get(each[0], each[1], "/").status_code, asked))
    restored = int((time.monotonic() - started) / 5)
    assert set(answered) == {200, 429}
    assert 12 <= answered.count(200) <= 12 + restored
    assert [get(service, ADMIN, "/").status_code for service in services] == [200, 200]


def test_two_replicas_share_the_budget_of_a_client_to_the_token(start: Callable[..., Service]) -> None:
    budget, at_once = 300, 4
    services = [start(CLIENT_BUDGET_TOKENS=str(budget)) for _ in range(2)]

    def ask_until_refused(service: Service) -> list[int]:
        used = []
        while (answer := post(service, WEB)).status_code == 200:
            used.append(int(answer.json()["tokens_used"]))
        assert answer.status_code == 429
        assert answer.json()["detail"].startswith("You have used up your budget for the month")
        return used

    with ThreadPoolExecutor(at_once) as pool:
        used = [one for each in pool.map(ask_until_refused, services * (at_once // 2)) for one in each]
    assert sum(used) >= budget
    if not any("Lost the connection to Redis" in service.log() for service in services):
        # Turns are charged when they end: each connection may have one turn in progress and one that is just reported.
        assert sum(used) <= budget + 2 * at_once * max(used)
    eventually(lambda: [tokens(service) for service in services] == [sum(used)] * 2, "each token is counted once")
    for service in services:
        assert post(service, WEB).status_code == 429
        assert post(service, BATCH).status_code == 200


async def test_a_renamed_client_keeps_its_usage_and_a_new_name_has_none(make_client: MakeClient) -> None:
    async def ask(keys: str) -> httpx.Response:
        client = await make_client(model_provider="echo", api_keys=keys, client_budget_tokens=1)
        return await client.post("/chat", json=HELLO, headers=bearer(WEB))

    assert (await ask(f"web: {WEB}")).status_code == 200
    assert (await ask(f"web: {WEB}")).status_code == 429
    assert (await ask(f"shop=web: {WEB}")).status_code == 429
    assert (await ask(f"shop: {WEB}")).status_code == 200


def test_while_redis_is_away_each_client_and_tenant_is_limited_by_each_replica(
    start: Callable[..., Service], tmp_path: Path
) -> None:
    with running_redis(tmp_path) as server:
        service = start(REDIS_URL=server.url, CLIENT_RATE_LIMIT_REQUESTS="1", TENANT_RATE_LIMIT_REQUESTS="1")
        assert get(service, ADMIN, "/").status_code == 200
        server.stop()
        # Each of them is restored after a minute.
        assert [get(service, WEB, "/").status_code for _ in range(2)] == [200, 429]
        refused = get(service, BATCH, "/")
        assert refused.status_code == 429
        assert "Your tenant may send 1 requests per minute" in refused.text
        assert [get(service, ADMIN, "/").status_code for _ in range(2)] == [200, 429]


def test_the_budget_of_a_client_holds_while_redis_is_away(start: Callable[..., Service], tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        service = start(REDIS_URL=server.url, CLIENT_BUDGET_TOKENS="50")
        assert post(service, WEB).status_code == 200
        server.stop()
        assert post(service, WEB, message=asking("hello", words=100)).status_code == 200
        eventually(lambda: used_up(service, WEB), "the replica counts by itself")
        assert post(service, BATCH).status_code == 200
        used = tokens(service)
        assert used > 50
        server.start()
        other = start(REDIS_URL=server.url, CLIENT_BUDGET_TOKENS="50")
        eventually(lambda: tokens(other) == used, "the usage of the time without Redis is reported")
        assert used_up(other, WEB)


@pytest.mark.parametrize("limit", ["CLIENT_BUDGET_TOKENS", "CLIENT_TOKENS_PER_MINUTE", "TENANT_TOKENS_PER_MINUTE"])
def test_tasks_of_a_client_that_may_use_no_more_wait_behind_those_of_others(
    start: Callable[..., Service], stand_in: StandIn, limit: str
) -> None:
    service = start(**{limit: "50"}, API_RUNS_TASKS="true", WORKER_CONCURRENCY="1")
    first = post(service, WEB, "/tasks", message=asking("long", words=200, hold="first")).json()
    eventually(lambda: len(stand_in.requests()) == 1, "the only room is taken")
    later = [post(service, WEB, "/tasks").json() for _ in range(5)]
    other = post(service, ADMIN, "/tasks").json()
    stand_in.release("first")
    eventually(lambda: state(service, WEB, first) == ("completed", 1), "the first is done", 60)
    eventually(lambda: state(service, ADMIN, other) == ("completed", 1), "that of another client is done", 60)
    assert len(stand_in.requests()) == 2, "the other tasks did not reach the model"
    eventually(lambda: {state(service, WEB, task) for task in later} == {("pending", 0)}, "they wait")
    assert "Task waits for a limit of its client" in service.log()
    eventually(lambda: service.metric("agent_tasks_due ") == 0, "no worker more would help")
    assert tokens(service) > 200


async def test_a_postponed_task_fails_at_its_deadline(redis_server: RedisServer) -> None:
    store = Redis(redis_server.url, prefix="portside")
    tasks = Tasks(store, max_attempts=2, deadline_seconds=8, result_ttl_seconds=60, queue_limit=100)
    task_id = (await tasks.accept("acme/web", "hello")).id
    (claim,) = await tasks.claim(1)
    await tasks.postpone(claim, 300)

    async def failed() -> bool:
        assert await tasks.claim(1) == []
        task = await tasks.get("acme/web", task_id)
        return task is not None and task.status == "failed" and (task.error or {})["code"] == "deadline_exceeded"

    await eventually_async(failed, "it is too late")
    await store.close()


async def test_a_postponed_task_takes_only_those_of_its_client_with_it(redis_server: RedisServer) -> None:
    store = Redis(redis_server.url, prefix="portside")
    tasks = Tasks(store, max_attempts=2, deadline_seconds=600, result_ttl_seconds=60, queue_limit=100)
    mine = [(await tasks.accept("acme/web", str(number))).id for number in range(4)]
    other = (await tasks.accept("admin", "other")).id
    (claim,) = await tasks.claim(1)
    assert claim.id == mine[0]
    await tasks.postpone(claim, 300)
    assert [each.id for each in await tasks.claim(10)] == [other]
    record = await tasks.get("acme/web", mine[0])
    assert record is not None
    assert (record.status, record.attempts) == ("pending", 0)
    # A task that is cancelled meanwhile stays so, and one that comes later can be claimed.
    assert await tasks.cancel("acme/web", mine[1])
    new = (await tasks.accept("acme/web", "new")).id
    assert [each.id for each in await tasks.claim(10)] == [new]
    # A late repetition changes nothing.
    await tasks.postpone(claim, 0)
    assert await tasks.claim(10) == []
    await store.close()


async def test_a_postponed_task_goes_on_after_its_approvals_as_before(redis_server: RedisServer) -> None:
    store = Redis(redis_server.url, prefix="portside")
    tasks = Tasks(store, max_attempts=2, deadline_seconds=600, result_ttl_seconds=60, queue_limit=100)
    task_id = (await tasks.accept("acme/web", "hello")).id
    (first,) = await tasks.claim(1)
    assert await tasks.suspend(first, "turn-1", time.time() + 300)
    await tasks.wake(task_id, "turn-1")
    for _ in range(5):
        (claim,) = await tasks.claim(1)
        # It does not count as an attempt, however often it is postponed.
        assert (claim.id, claim.attempt, claim.approval, claim.owner) == (task_id, 1, "turn-1", "acme/web")
        await tasks.postpone(claim, 0)
    await store.close()


@pytest.mark.parametrize("path", ["/a2a", "/a2a/v1/message:send"])
async def test_callers_of_a2a_have_budgets(make_client: MakeClient, path: str) -> None:
    client = await make_client(model_provider="echo", api_keys=KEYS, client_budget_tokens=1)
    client.headers["A2A-Version"] = "1.0"
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
    call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
    body = call if path == "/a2a" else {"message": message}

    async def send(key: str) -> httpx.Response:
        return await client.post(path, json=body, headers=bearer(key))

    assert "You have used up" not in (await send(WEB)).text

    async def refused() -> httpx.Response | None:
        answer = await send(WEB)
        return answer if "You have used up your budget for the month; try again in " in answer.text else None

    answer = await eventually_async(refused, "the usage is counted")
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.status_code == (200 if path == "/a2a" else 429)
    assert "error" in answer.json()
    assert "error" not in (await send(BATCH)).json()
    assert 'agent_rate_limited_total{reason="client_budget"}' in (await client.get("/metrics")).text


async def test_callers_of_mcp_have_budgets(start: Callable[..., Service]) -> None:
    service = start(API_MCP="true", TENANT_BUDGET_TOKENS="1")
    async with (
        mcp_client(service.url, headers=bearer(WEB)) as client,
        mcp_client(service.url, headers=bearer(ADMIN)) as other,
    ):
        assert not (await client.call_tool("ask", HELLO)).is_error

        async def refused() -> str:
            result = await client.call_tool("ask", HELLO)
            return said(result) if result.is_error else ""

        assert "Your tenant has used up its budget" in await eventually_async(refused, "the usage is counted")
        assert not (await other.call_tool("ask", HELLO)).is_error


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("client_budget_tokens", "its budget is used up"),
        ("tenant_budget_tokens", "the budget of its tenant is used up"),
        ("client_tokens_per_minute", "its limit of tokens per minute is reached"),
    ],
)
async def test_a_runtime_uses_the_budget_of_the_client_of_its_turn(
    make_gateway: MakeGateway, setting: str, message: str
) -> None:
    gateway = await make_gateway(**{setting: 5})
    turns = gateway.components.turns
    web, admin = (Turn(Usage(), time.time() + 60, client=client) for client in ("acme/web", "admin"))

    async def say(turn: Turn | None) -> None:
        headers = {} if turn is None else {"baggage": f"portside.turn={turn.id}"}
        await gateway.say("one two three " * 20, extra_headers=headers)

    with turns.begin(web), turns.begin(admin):
        await say(web)

        async def refused() -> anthropic.RateLimitError | None:
            try:
                await say(web)
            except anthropic.RateLimitError as error:
                return error
            return None

        error = await eventually_async(refused, "the usage is counted")
        assert message in str(error)
        assert int(error.response.headers["retry-after"]) > 0
        await say(admin)
        # A call of no turn is on the account of the agent only.
        await say(None)
    limits = gateway.components.limits
    (used, _) = await limits.shares.used("acme/web")
    assert used.spent.tokens == web.usage.total
    assert gateway.sample("agent_client_tokens_total", client="anonymous", direction="output") > 0


async def test_metrics_have_the_tokens_of_each_named_client(make_client: MakeClient) -> None:
    client = await make_client(model_provider="echo", api_keys=f"shop=web: {WEB}, {ADMIN}")
    for key in (WEB, ADMIN):
        assert (await client.post("/chat", json=HELLO, headers=bearer(key))).status_code == 200
    metrics = (await client.get("/metrics")).text
    for name in ("shop", "unnamed"):
        for direction in ("input", "output"):
            assert f'agent_client_tokens_total{{client="{name}",direction="{direction}"}}' in metrics


def test_the_tokens_of_any_number_of_clients_take_few_series() -> None:
    registry = CollectorRegistry()
    metrics = CallerMetrics(registry)
    for number in range(1000):
        metrics.count_tokens(f"client-{number}", sent=1, received=2)
    samples = [sample for family in registry.collect() for sample in family.samples]
    of_tokens = [sample for sample in samples if sample.name == "agent_client_tokens_total"]
    assert len(of_tokens) == 2 * 101
    assert sum(sample.value for sample in of_tokens) == 3000
    assert registry.get_sample_value("agent_client_tokens_total", {"client": "other", "direction": "output"}) == 1800
