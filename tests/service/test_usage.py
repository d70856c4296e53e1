"""Usage and budgets of each client and tenant: exact across replicas, and who may read what."""

from datetime import UTC, datetime
from decimal import Decimal

import httpx

from agent_service.agent.messages import Usage
from agent_service.limits.shares import CLIENT_BUDGET, TENANT, TENANT_BUDGET, Shares
from agent_service.limits.terms import Prices, Terms
from agent_service.state.redis import Redis
from support.agent import MakeClient
from support.redis_server import RedisServer

WEB, BATCH, ADMIN = "key-of-the-web-client-01", "key-of-the-batch-client-1", "key-of-the-administrator-1"
KEYS = f"acme/web: {WEB}, acme/batch: {BATCH}, admin: {ADMIN}"
PRICES = Prices(Decimal(3), Decimal(15))


def shares(server: RedisServer, *, of_client: int, of_tenant: int = 0, month: int = 11) -> tuple[Redis, Shares]:
    store = Redis(server.url, prefix="portside")
    terms = Terms("month", tokens=of_client, cost=Decimal(0), stops=True, prices=PRICES)
    return store, Shares(
        store,
        of_client=terms,
        of_tenant=terms.limited_to(of_tenant, Decimal(0)),
        # A century ahead, as Redis deletes an account 7 days after its period.
        now=lambda: datetime(2126, month, 30, 12, tzinfo=UTC),
    )


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def ask(client: httpx.AsyncClient, key: str, path: str = "/chat") -> httpx.Response:
    return await client.post(path, json={"message": "hello"}, headers=bearer(key))


async def test_replicas_share_the_budgets_of_a_client_and_its_tenant(redis_server: RedisServer) -> None:
    (one_store, one), (other_store, other) = (shares(redis_server, of_client=100, of_tenant=150) for _ in range(2))
    for _ in range(30):
        one.charge("acme/web", Usage(output_tokens=1))
        other.charge("acme/web", Usage(output_tokens=2))
    await one.close()
    assert await one.waits("acme/web") == {CLIENT_BUDGET: 0, TENANT_BUDGET: 0}
    one.charge("acme/web", Usage(output_tokens=10))
    await one.close()
    await other.close()
    waits = await other.waits("acme/web")
    # Until the end of November, 30 November 12:00.
    assert waits[CLIENT_BUDGET] == 12 * 3600
    assert waits[TENANT_BUDGET] == 0
    other.charge("acme/batch", Usage(output_tokens=50))
    await other.close()
    assert await one.waits("acme/batch") == {CLIENT_BUDGET: 0, TENANT_BUDGET: 12 * 3600}
    assert await one.waits("other/web") == {CLIENT_BUDGET: 0, TENANT_BUDGET: 0}
    assert await one.waits("anyone") == {}
    used = {(share.kind, share.id): share.spent for share in await one.all("2126-11")}
    assert {known: spent.tokens for known, spent in used.items()} == {
        ("client", "acme/web"): 100,
        ("client", "acme/batch"): 50,
        ("tenant", "acme"): 150,
    }
    assert used["client", "acme/web"].money == 100 * 15 / 10**6
    assert await one.all("2126-10") == []
    for store in (one_store, other_store):
        await store.close()


async def test_the_usage_of_a_client_starts_at_zero_in_a_period_and_stays_readable(redis_server: RedisServer) -> None:
    november_store, november = shares(redis_server, of_client=10)
    november.charge("web", Usage(output_tokens=10))
    await november.close()
    december_store, december = shares(redis_server, of_client=10, month=12)
    assert await december.waits("web") == {CLIENT_BUDGET: 0}
    assert [share.spent.tokens for share in await december.all("2126-11")] == [10]
    for store in (november_store, december_store):
        await store.close()


async def test_a_client_that_used_up_its_budget_is_refused_and_others_are_not(make_client: MakeClient) -> None:
    client = await make_client(model_provider="echo", api_keys=KEYS, client_budget_tokens=1)
    assert (await ask(client, WEB)).status_code == 200
    refused = await ask(client, WEB)
    assert refused.status_code == 429
    assert "You have used up your budget for the month" in refused.json()["detail"]
    assert int(refused.headers["Retry-After"]) > 0
    assert (await ask(client, WEB, "/tasks")).status_code == 429
    assert (await ask(client, BATCH)).status_code == 200
    metrics = (await client.get("/metrics")).text
    assert 'agent_rate_limited_total{reason="client_budget"} 2.0' in metrics


async def test_the_budget_of_a_tenant_is_that_of_all_its_clients(make_client: MakeClient) -> None:
    client = await make_client(model_provider="echo", api_keys=KEYS, tenant_budget_tokens=1)
    assert (await ask(client, WEB)).status_code == 200
    refused = await ask(client, BATCH)
    assert refused.status_code == 429
    assert "Your tenant has used up its budget" in refused.json()["detail"]
    # The usage of a client without a tenant is that of none.
    assert [(await ask(client, ADMIN)).status_code for _ in range(2)] == [200, 200]


async def test_a_client_reads_its_own_usage_and_an_administrator_all(make_client: MakeClient) -> None:
    client = await make_client(
        model_provider="echo", api_keys=KEYS, usage_readers=("admin",), tenant_budget_tokens=10**6, price_output=1
    )
    for key in (WEB, BATCH, BATCH):
        assert (await ask(client, key)).status_code == 200
    own = (await client.get("/usage", headers=bearer(BATCH))).json()
    assert (own["client"], own["tenant"], own["complete"]) == ("acme/batch", "acme", True)
    assert own["used"]["tokens"] > 0
    assert own["used"]["limit_tokens"] is None
    assert own["used_by_tenant"]["limit_tokens"] == 10**6
    assert own["used_by_tenant"]["tokens"] > own["used"]["tokens"]
    assert (await client.get("/usage/clients", headers=bearer(WEB))).status_code == 403
    every = (await client.get("/usage/clients", headers=bearer(ADMIN))).json()
    rows = {(row["kind"], row["name"]): row["tokens"] for row in every["usage"]}
    assert rows[TENANT, "acme"] == rows["client", "acme/web"] + rows["client", "acme/batch"]
    assert rows["client", "acme/batch"] == own["used"]["tokens"]
    earlier = await client.get("/usage/clients", headers=bearer(ADMIN), params={"period": "2001-01"})
    assert earlier.json()["usage"] == []


async def test_without_client_keys_there_is_no_usage_by_client(make_client: MakeClient) -> None:
    client = await make_client(model_provider="echo")
    assert (await client.get("/usage")).status_code == 403
    assert (await client.get("/usage/clients")).status_code == 403
