"""The budget of a day or month: counted across all replicas from the tokens and prices of each turn, and enforced."""

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_service.agent.messages import Usage
from agent_service.limits.budget import Budget
from agent_service.limits.terms import Prices, Terms
from agent_service.state.redis import Redis
from stand_in import StandIn, asking
from support.agent import KEY, Service, StartService, run_agent_service
from support.eventually import eventually
from support.redis_server import RedisServer, running_redis

pytestmark = pytest.mark.timing

OPUS = Prices(Decimal(5), Decimal(25), cache_write=Decimal("6.25"), cache_read=Decimal("0.5"))


class Calendar:
    """A clock that is set by hand, a century ahead: Redis deletes an account 7 days after its period."""

    def __init__(self, text: str) -> None:
        self.set(text)

    def set(self, text: str) -> None:
        self.moment = datetime.fromisoformat(text).replace(tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def start(start_service: StartService, stand_in: StandIn) -> Callable[..., Service]:
    """Start an agent API in front of the stand-in, with no limit on requests."""
    common = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url, "RATE_LIMIT_REQUESTS": "0"}
    return lambda **settings: start_service(**{**common, **settings})


def component(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = service.get("/health").json()["components"]["budget"]
    return found


def refused(service: Service) -> bool:
    return service.post("/chat", message="hello").status_code == 429


def test_an_agent_that_used_up_its_budget_refuses_requests_without_calling_the_model(
    start: Callable[..., Service], stand_in: StandIn
) -> None:
    service = start(BUDGET_TOKENS="50", BUDGET_PERIOD="day")
    answer = service.post("/chat", message=asking("hello", words=100))
    assert answer.status_code == 200
    eventually(lambda: refused(service), "it is used up")
    asked = len(stand_in.requests())
    for path in ("/chat", "/chat/stream"):
        answer = service.post(path, message="hello")
        assert answer.status_code == 429
        assert answer.json()["detail"].startswith("This agent has used up its budget for the day; try again in ")
        assert 0 < int(answer.headers["Retry-After"]) <= 86_400
    assert len(stand_in.requests()) == asked
    assert service.metric('agent_rate_limited_total{reason="budget"}') >= 3
    eventually(lambda: service.metric("agent_budget_used_ratio ") > 1, "the metrics show it")
    assert service.metric("agent_budget_used_tokens ") > 50
    assert service.metric("agent_budget_stops ") == 1
    assert "Budget is used up" in service.log()
    assert service.get("/health/ready").status_code == 200


def test_an_agent_that_only_warns_keeps_answering(start: Callable[..., Service]) -> None:
    service = start(BUDGET_TOKENS="50", BUDGET_ACTION="warn")
    for _ in range(3):
        assert service.post("/chat", message=asking("hello", words=100)).status_code == 200
    eventually(lambda: service.metric("agent_budget_used_ratio ") > 1, "the metrics show it")
    assert service.metric("agent_budget_stops ") == 0
    [line] = [line for line in service.log().splitlines() if "Budget is used up" in line]
    assert json.loads(line)["stops"] is False
    eventually(lambda: "% of the budget of 20" in component(service)["detail"], "health reports it")


def test_cost_is_computed_from_the_prices(start: Callable[..., Service], stand_in: StandIn) -> None:
    prices = {"PRICE_INPUT": "1000", "PRICE_OUTPUT": "0", "PRICE_CACHE_WRITE": "2000", "PRICE_CACHE_READ": "100"}
    service = start(BUDGET_COST="1000", **prices)
    service.post("/chat", message=asking("hello", cached=100))
    sent = service.metric('agent_tokens_total{direction="input",model="claude-sonnet-5-5"}')
    expected = ((sent - 100) * 1000 + 50 * 2000 + 50 * 100) / 1_000_000
    eventually(lambda: service.metric("agent_budget_used_cost ") == pytest.approx(expected), "the metrics show it")
    assert service.metric("agent_budget_used_ratio ") == pytest.approx(expected / 1000)


def test_input_token_counts_missing_from_an_event_keep_their_value(start: Callable[..., Service]) -> None:
    prices = {"PRICE_INPUT": "1000", "PRICE_OUTPUT": "0", "PRICE_CACHE_WRITE": "2000", "PRICE_CACHE_READ": "100"}
    service = start(BUDGET_COST="1000", **prices)
    service.post("/chat", message=asking("hello", cached=100, recount=7))
    assert service.metric('agent_tokens_total{direction="input",model="claude-sonnet-5-5"}') == 107
    expected = (7 * 1000 + 50 * 2000 + 50 * 100) / 1_000_000
    eventually(lambda: service.metric("agent_budget_used_cost ") == pytest.approx(expected), "the metrics show it")


@pytest.mark.parametrize("setting", ["REQUEST_TIMEOUT_SECONDS", ""], ids=["times out", "its client leaves"])
def test_the_usage_of_a_turn_cut_off_before_it_starts_is_estimated(start: Callable[..., Service], setting: str) -> None:
    service = start(BUDGET_TOKENS="5000", **({setting: "3"} if setting else {}))
    message = asking(stall=30) + "hello " * 1000
    with suppress(httpx.ReadTimeout):
        httpx.post(f"{service.url}/chat", json={"message": message}, timeout=30 if setting else 3)
    eventually(lambda: service.metric("agent_budget_used_tokens ") == math.ceil(len(message) / 4), "it is estimated")


def test_requests_that_the_model_api_rejects_are_not_counted(start: Callable[..., Service]) -> None:
    # Its second wait would end after the time of the request.
    service = start(BUDGET_TOKENS="5000", REQUEST_TIMEOUT_SECONDS="3", MODEL_MAX_RETRIES="2")
    assert service.post("/chat", message=asking(fault=429, retry_after=2) + "hello " * 1000).status_code == 504
    used = service.post("/chat", message="hello").json()["tokens_used"]
    eventually(lambda: service.metric("agent_budget_used_tokens ") == used, "no more than that was used")


def test_tasks_wait_for_the_next_period(start: Callable[..., Service], stand_in: StandIn) -> None:
    service = start(BUDGET_TOKENS="50", API_RUNS_TASKS="true")
    service.post("/chat", message=asking("hello", words=100))
    eventually(lambda: refused(service), "it is used up")
    asked = len(stand_in.requests())
    task = service.post("/tasks", message="hello").json()
    eventually(lambda: service.metric("agent_task_queue_depth ") == 1, "it waits")
    assert service.get(task["status_url"]).json()["status"] == "pending"
    assert service.metric("agent_tasks_due ") == 0, "no worker more would help"
    assert len(stand_in.requests()) == asked


def test_tasks_that_wait_for_the_next_period_fail_at_their_deadline(start: Callable[..., Service]) -> None:
    service = start(BUDGET_TOKENS="50", API_RUNS_TASKS="true", TASK_DEADLINE_SECONDS="2")
    service.post("/chat", message=asking("hello", words=100))
    eventually(lambda: refused(service), "it is used up")
    task = service.post("/tasks", message="hello").json()
    eventually(lambda: service.get(task["status_url"]).json().get("status") == "failed", "it is too late")
    assert service.get(task["status_url"]).json()["error"]["code"] == "deadline_exceeded"


def test_replicas_share_a_budget_that_outlives_them(start: Callable[..., Service], tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        one, other = (start(BUDGET_TOKENS="50", REDIS_URL=server.url) for _ in range(2))
        one.post("/chat", message=asking("hello", words=100))
        eventually(lambda: refused(other), "the other replica knows")
        third = start(BUDGET_TOKENS="50", REDIS_URL=server.url)
        assert refused(third)
        server.stop()
        assert refused(one), "it relies on the last known usage"
        server.start()
        assert refused(one)


def test_usage_during_a_redis_outage_is_reported_when_redis_is_back(
    start: Callable[..., Service], tmp_path: Path
) -> None:
    with running_redis(tmp_path) as server:
        one, other = (start(BUDGET_TOKENS="50", REDIS_URL=server.url) for _ in range(2))
        server.stop()
        assert one.post("/chat", message=asking("hello", words=100)).status_code == 200
        eventually(lambda: refused(one), "it counts by itself")
        server.start()
        eventually(lambda: refused(other), "the other replica learns of it", 30)


def test_a_request_refused_for_the_budget_does_not_count_towards_its_clients_limit(
    start: Callable[..., Service],
) -> None:
    service = start(BUDGET_TOKENS="50", BUDGET_PERIOD="month", RATE_LIMIT_REQUESTS="3")
    assert service.post("/chat", message=asking("hello", words=100)).status_code == 200
    eventually(lambda: service.metric("agent_budget_used_ratio ") > 1, "it is used up")
    for _ in range(5):
        answer = service.post("/chat", message="hello")
        assert answer.status_code == 429
        assert int(answer.headers["X-RateLimit-Remaining"]) >= 2
        assert answer.json()["detail"].startswith("This agent has used up its budget for the month")
    for _ in range(3):
        service.get("/tasks")
    answer = service.post("/chat", message="hello")
    assert answer.headers["X-RateLimit-Remaining"] == "0"
    assert answer.json()["detail"].startswith("This agent has used up its budget for the month"), "which lasts longest"
    assert service.get("/tasks").json()["detail"].startswith("You may send 3 requests per minute")


async def test_each_period_has_its_own_account(redis_server: RedisServer) -> None:
    store, calendar = Redis(redis_server.url, prefix="portside"), Calendar("2126-12-31T23:00")
    of_month, of_day = (
        Budget(store, Terms(period, tokens=10, cost=Decimal(0), stops=True, prices=Prices()), now=calendar)
        for period in ("month", "day")
    )
    for budget in (of_month, of_day):
        assert await budget.wait() == 0
        budget.charge(Usage(output_tokens=10))
        assert await budget.wait() == 3600
    calendar.set("2127-01-01T00:00")
    for budget in (of_month, of_day):
        assert await budget.wait() == 0
        budget.charge(Usage(output_tokens=10))
        await budget.close()
    calendar.set("2127-01-02T00:00")
    assert await of_day.wait() == 0
    assert await of_month.wait() == 30 * 86_400
    assert (await of_month.used()).period == "2127-01"
    await store.close()


@asynccontextmanager
async def counting(
    server: RedisServer, now: Callable[[], datetime] = lambda: datetime.now(UTC), *, stops: bool = True
) -> AsyncIterator[Budget]:
    """Yield a budget of 100 tokens a day, as one process counts it."""
    store = Redis(server.url, prefix="portside")
    budget = Budget(store, Terms("day", tokens=100, cost=Decimal(0), stops=stops, prices=Prices()), now=now)
    yield budget
    await budget.close()
    await store.close()


async def until_used(budget: Budget, tokens: int) -> None:
    deadline = asyncio.get_running_loop().time() + 60
    while not ((account := await budget.used()).known and account.spent.tokens == tokens):
        assert asyncio.get_running_loop().time() < deadline, f"{tokens} tokens are used, and not {account}"
        await asyncio.sleep(0.1)


async def test_usage_during_a_redis_outage_counts_in_the_period_in_which_it_occurred(tmp_path: Path) -> None:
    calendar, day_before = Calendar("2126-11-23T23:59"), Calendar("2126-11-23T23:59")
    with running_redis(tmp_path) as server:
        async with counting(server, calendar) as budget, counting(server, day_before) as other:
            await until_used(budget, 0)
            server.stop()
            budget.charge(Usage(output_tokens=100))
            assert await budget.wait() == 60
            calendar.set("2126-11-24T00:00")
            assert await budget.wait() == 0
            budget.charge(Usage(output_tokens=1))
            server.start()
            await until_used(budget, 1)
            await until_used(other, 100)


async def test_usage_that_a_stalled_redis_counted_is_not_counted_twice(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        async with counting(server) as budget, counting(server) as other:
            await until_used(budget, 0)
            server.freeze()
            budget.charge(Usage(output_tokens=10))
            assert (await budget.used()).spent.tokens == 10
            budget.charge(Usage(output_tokens=1))
            # Each of these may reach Redis, but none is answered.
            await asyncio.gather(*(budget.used() for _ in range(5)))
            server.thaw()
            await until_used(budget, 11)
            await until_used(other, 11)


@pytest.mark.parametrize("stops", [True, False])
async def test_usage_is_reported_as_soon_as_redis_is_back(tmp_path: Path, *, stops: bool) -> None:
    with running_redis(tmp_path) as server:
        async with counting(server, stops=stops) as budget, counting(server) as other:
            await budget.used()
            server.stop()
            budget.charge(Usage(output_tokens=10))
            await other.used()
            server.start()
            await until_used(other, 10)


async def test_a_process_reports_its_usage_when_it_ends(redis_server: RedisServer) -> None:
    async with counting(redis_server, stops=False) as budget:
        budget.charge(Usage(output_tokens=10))
    async with counting(redis_server) as other:
        await until_used(other, 10)


async def test_known_usage_is_restored_to_a_redis_that_lost_it(redis_server: RedisServer) -> None:
    async with counting(redis_server) as budget, counting(redis_server) as other:
        budget.charge(Usage(output_tokens=10))
        await until_used(other, 10)
        redis_server.command("FLUSHALL")
        budget.charge(Usage(output_tokens=5))
        await until_used(budget, 15)
        await until_used(other, 15)


def test_usage_is_unknown_until_redis_has_answered(start: Callable[..., Service], tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        server.stop()
        service = start(BUDGET_TOKENS="50", REDIS_URL=server.url)
        eventually(lambda: component(service)["status"] == "down", "it is checked")
        assert re.match(r"The usage of the budget of 20\S+ is not known: ", component(service)["detail"])
        assert all(math.isnan(service.metric(f"agent_budget_used_{name} ")) for name in ("ratio", "tokens", "cost"))
        service.post("/chat", message=asking("hello", words=100))
        eventually(lambda: refused(service), "it relies on its own usage")
        eventually(lambda: service.log().count("Budget is used up") == 1, "it is logged")
        assert math.isnan(service.metric("agent_budget_used_ratio "))
        server.start()
        eventually(lambda: service.metric("agent_budget_used_ratio ") > 1, "it is known", 30)


async def test_small_sums_add_up(redis_server: RedisServer) -> None:
    store = Redis(redis_server.url, prefix="portside")
    budget = Budget(store, Terms("month", tokens=0, cost=Decimal("0.001"), stops=True, prices=OPUS))
    for _ in range(39):
        budget.charge(Usage(output_tokens=1))
    assert await budget.wait() == 0
    budget.charge(Usage(output_tokens=1))
    assert await budget.wait() > 0
    assert (await budget.used()).spent.money == pytest.approx(0.001)
    await store.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"BUDGET_COST": "5"}, "BUDGET_COST: requires prices; set PRICE_INPUT and PRICE_OUTPUT"),
        ({"BUDGET_COST": "five"}, "BUDGET_COST: "),
        ({"BUDGET_TOKENS": "-1"}, "BUDGET_TOKENS: "),
        ({"BUDGET_PERIOD": "year"}, "BUDGET_PERIOD: "),
        ({"PRICE_INPUT": "0.0000001"}, "PRICE_INPUT: "),
    ],
)
def test_the_service_does_not_start_with_an_invalid_budget(tmp_path: Path, wrong: dict[str, str], said: str) -> None:
    ended = run_agent_service("serve", folder=tmp_path, MODEL_PROVIDER="echo", **wrong)
    assert ended.returncode == 2
    assert ended.stderr.startswith(said)
    assert len(ended.stderr.splitlines()) == 1
