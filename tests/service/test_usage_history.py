"""The usage of each client by day: exact across replicas, bounded, and readable for as long as it is kept."""

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest_asyncio

from agent_service.agent.messages import Usage
from agent_service.limits.history import MOST_CLIENTS, OTHERS, History, Used
from agent_service.limits.terms import Prices
from agent_service.state.redis import Redis
from agent_service.state.redis_errors import StateUnavailableError
from service.test_usage import ADMIN, BATCH, KEYS, WEB, ask, bearer
from support.agent import MakeClient
from support.eventually import eventually_async
from support.redis_server import RedisServer, running_redis

PRICES = Prices(Decimal(3), Decimal(15), cache_write=Decimal(4), cache_read=Decimal(1))
# A century ahead, as Redis deletes a day that is no longer kept, by its own clock.
NOON = datetime(2126, 11, 30, 12, tzinfo=UTC)
TODAY = NOON.date()
EVERY_DAY = {"since": "2001-01-01"}

MakeHistory = Callable[..., History]


@pytest_asyncio.fixture
async def make_history(redis_server: RedisServer) -> AsyncIterator[MakeHistory]:
    """Return a function that makes the history of a process at a time, in one Redis for all."""
    stores: list[Redis] = []
    made: list[History] = []

    def make(*, at: datetime = NOON, days: int = 90, url: str = redis_server.url) -> History:
        stores.append(Redis(url, prefix="portside"))
        made.append(History(stores[-1], PRICES, days=days, now=lambda: at))
        return made[-1]

    yield make
    for history in made:
        await history.close()
    for store in stores:
        await store.close()


async def test_replicas_count_turns_tokens_by_kind_and_cost_of_each_client_together(make_history: MakeHistory) -> None:
    one, other = make_history(), make_history()
    spent = Usage(uncached_tokens=10, cache_write_tokens=20, cache_read_tokens=30, output_tokens=40)
    for history in (one, other, other):
        history.charge("acme/web", spent)
        history.count("acme/web")
    one.charge(None, Usage(output_tokens=1))
    await other.close()
    found = await one.read(TODAY, TODAY)
    billionths = 3 * (10 * 3 + 20 * 4 + 30 * 1 + 40 * 15) * 1000
    assert found == {
        "acme/web": Used(requests=3, input=30, output=120, cache_read=90, cache_write=60, cost=billionths),
        "anyone": Used(output=1, cost=15_000),
    }
    assert await other.read(TODAY, TODAY) == found


async def test_days_are_apart_and_are_added_up_for_a_range(make_history: MakeHistory) -> None:
    for ago in (0, 1, 6):
        history = make_history(at=NOON - timedelta(days=ago))
        history.charge("web", Usage(output_tokens=10**ago))
        await history.close()
    history = make_history()
    ranges = {1: 1, 2: 11, 6: 11, 7: 1_000_011}
    for days, tokens in ranges.items():
        found = await history.read(TODAY - timedelta(days=days - 1), TODAY)
        assert found["web"].output == tokens
    assert (await history.read(TODAY - timedelta(days=6), TODAY - timedelta(days=2)))["web"].output == 10**6
    assert await history.read(date(2001, 1, 1), date(2001, 1, 2)) == {}


async def test_a_day_expires_when_it_is_no_longer_kept(redis_server: RedisServer) -> None:
    store = Redis(redis_server.url, prefix="portside")
    now = datetime.now(UTC)
    history = History(store, PRICES, days=7, now=lambda: now)
    history.count("web")
    await history.close()
    for key in await store.call("KEYS", "{portside}:budget:days:*"):
        lives = await store.call("TTL", key)
        # Midnight may pass meanwhile.
        assert timedelta(days=7, minutes=-5) <= timedelta(seconds=lives) <= timedelta(days=8)
    assert history.first_day == now.date() - timedelta(days=6)
    await store.close()


async def test_clients_beyond_the_bound_are_counted_as_one(make_history: MakeHistory) -> None:
    history = make_history()
    for number in range(MOST_CLIENTS + 5):
        history.charge(f"client-{number}", Usage(output_tokens=1))
    found = await history.read(TODAY, TODAY)
    assert len(found) == MOST_CLIENTS + 1
    assert found[OTHERS].output == 5
    # A known client keeps its row, and a new one of another process has none.
    other = make_history()
    other.charge("client-0", Usage(output_tokens=1))
    other.charge("late", Usage(output_tokens=1))
    found = await other.read(TODAY, TODAY)
    assert (found["client-0"].output, found[OTHERS].output) == (2, 6)
    assert len(found) == MOST_CLIENTS + 1


async def test_a_batch_whose_reply_was_lost_is_counted_once(make_history: MakeHistory, tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(running_redis(tmp_path))
        history = make_history(url=server.url)
        history.charge("web", Usage(output_tokens=1))
        assert (await history.read(TODAY, TODAY))["web"].output == 1
        server.freeze()
        history.charge("web", Usage(output_tokens=2))
        await history.close()
        history.charge("web", Usage(output_tokens=3))
        server.thaw()

        async def all_counted() -> bool:
            try:
                return (await history.read(TODAY, TODAY))["web"].output == 6
            except StateUnavailableError:
                return False

        await eventually_async(all_counted, "the usage is counted")
        assert (await make_history(url=server.url).read(TODAY, TODAY))["web"].output == 6


async def test_an_administrator_reads_the_history_of_all_clients(make_client: MakeClient) -> None:
    client = await make_client(model_provider="echo", api_keys=KEYS, usage_readers=("admin",), price_output=1)
    for key in (WEB, BATCH, BATCH):
        assert (await ask(client, key)).status_code == 200
    own = (await client.get("/usage", headers=bearer(BATCH))).json()["used"]
    assert (await client.get("/usage/history", headers=bearer(WEB))).status_code == 403
    found = (await client.get("/usage/history", headers=bearer(ADMIN), params=EVERY_DAY)).json()
    rows = {row["id"]: row for row in found["usage"]}
    assert set(rows) == {"acme/web", "acme/batch"}
    assert (rows["acme/web"]["requests"], rows["acme/batch"]["requests"]) == (1, 2)
    batch = rows["acme/batch"]
    assert (batch["name"], batch["tenant"]) == ("acme/batch", "acme")
    assert batch["input_tokens"] + batch["output_tokens"] == own["tokens"]
    assert batch["cost"] == own["cost"] > 0
    assert found["store"]


async def test_a_range_is_cut_to_what_is_kept(make_client: MakeClient) -> None:
    client = await make_client(model_provider="echo", api_keys=KEYS, usage_readers=("admin",), usage_history_days=30)
    found = await client.get("/usage/history", headers=bearer(ADMIN), params=EVERY_DAY)
    since, until = (date.fromisoformat(found.json()[name]) for name in ("since", "until"))
    assert until - since == timedelta(days=29)
    for query in ({"since": "yesterday"}, {"until": "2026-13-01"}):
        assert (await client.get("/usage/history", headers=bearer(ADMIN), params=query)).status_code == 422
    earlier = await client.get("/usage/history", headers=bearer(ADMIN), params={"until": "2001-01-01"})
    assert earlier.json()["usage"] == []


async def test_without_prices_there_is_no_cost_and_one_state_has_one_id(make_client: MakeClient) -> None:
    one = await make_client(model_provider="echo", api_keys=KEYS, usage_readers=("admin",))
    other = await make_client(model_provider="echo", api_keys=KEYS, usage_readers=("admin",))
    assert (await ask(one, WEB)).status_code == 200
    found = (await one.get("/usage/history", headers=bearer(ADMIN), params=EVERY_DAY)).json()
    assert [row["cost"] for row in found["usage"]] == [None]
    assert (await other.get("/usage/history", headers=bearer(ADMIN), params=EVERY_DAY)).json() == found
