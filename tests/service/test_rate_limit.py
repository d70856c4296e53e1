"""Rate limits: requests of a client and tokens of the agent; exact, shared and bounded in memory."""

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
import redis
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent_service.agent.messages import Usage
from agent_service.auth.clients import network
from agent_service.limits.budget import Budget
from agent_service.limits.history import History
from agent_service.limits.limits import MOST_CLIENTS, Limits
from agent_service.limits.local import UNIT, LocalBuckets
from agent_service.limits.rates import Rate
from agent_service.limits.shares import Shares
from agent_service.limits.terms import Prices, Terms
from agent_service.state.redis import Redis
from agent_service.state.script import Script
from stand_in import StandIn, asking
from support.agent import KEY, MakeClient, Service, StartService
from support.eventually import eventually
from support.redis_server import RedisServer, running_redis

pytestmark = pytest.mark.timing

MINUTE = 60_000
HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


class ScriptWithClock:
    """The real script in a real Redis, with a clock that the test sets: TIME and the keys' lifetimes are replaced."""

    def __init__(self, server: redis.Redis) -> None:
        text = Script("agent_service.limits", "limit").text.decode()
        for real, ours in {
            "redis.call('TIME')": "{math.floor(ARGV[#ARGV] / 1000), ARGV[#ARGV] % 1000 * 1000}",
            "math.ceil(debt / limit))": "3600000)",
        }.items():
            assert text.count(real) == 1, real
            text = text.replace(real, ours)
        self._server = server
        self._script = server.register_script(text)

    def clear(self) -> None:
        self._server.flushall()

    def step(self, now: int, of_budget: int, rates: Sequence[Rate]) -> list[int]:
        numbers = [number for rate in rates for number in (rate.limit, rate.used, rate.takes)]
        return list(self._script(keys=[rate.key for rate in rates], args=[of_budget, *numbers, now]))


def requests_of(client: str, limit: int) -> Rate:
    return Rate(f"client:{client}", limit, "requests", takes=1)


def tokens_of(whose: str, limit: int, used: int = 0) -> Rate:
    return Rate(f"tokens:{whose}", limit, "tokens", used=used)


@pytest.fixture(scope="module")
def script(redis_process: RedisServer) -> Iterator[ScriptWithClock]:
    with redis.Redis.from_url(redis_process.url) as server:
        yield ScriptWithClock(server)


# Time advances in small and large steps, and sometimes goes back, as when a clock is set.
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.one_of(st.integers(0, 500), st.integers(0, 2 * MINUTE), st.integers(-3 * MINUTE, 0)),
        st.booleans(),
        st.one_of(st.just(0), st.integers(1, 5000)),
        st.one_of(st.just(0), st.integers(1, MINUTE)),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=300)
@example(steps=[("a", 0, False, 0, 0), ("a", MINUTE, True, 5000, 0), ("a", -MINUTE, False, 0, 7)], requests=1, tokens=1)
@given(steps=_STEPS, requests=st.sampled_from([0, 1, 2, 7, 60, 1_000_000]), tokens=st.sampled_from([0, 1, 13, 10**9]))
def test_the_script_and_its_local_twin_always_agree(
    script: ScriptWithClock, steps: list[tuple[str, int, bool, int, int]], requests: int, tokens: int
) -> None:
    script.clear()
    twin = LocalBuckets(MOST_CLIENTS, kept="tokens:agent")
    now = 1_763_866_129_000
    for client, later, takes_tokens, used, of_budget in steps:
        now += later
        rates = [requests_of(client, requests), requests_of("tenant", 3)] if requests else []
        if takes_tokens and tokens:
            rates += [tokens_of("agent", tokens, used), tokens_of(client, 13, used)]
        assert twin.step(now, of_budget, rates) == script.step(now, of_budget, rates)


@settings(deadline=None)
@given(limit=st.integers(1, 50), pauses=st.lists(st.integers(0, 20_000), min_size=1, max_size=300))
def test_no_interval_admits_more_than_a_full_bucket_plus_its_refill(limit: int, pauses: list[int]) -> None:
    buckets = LocalBuckets(MOST_CLIENTS)
    now, admitted = 0, []
    for pause in pauses:
        now += pause
        if buckets.step(now, 0, [requests_of("a", limit)])[0] == 0:
            admitted.append(now)
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            assert last - first + 1 <= limit + (admitted[last] - admitted[first]) * limit / MINUTE


@settings(deadline=None, max_examples=40)
@given(limit=st.integers(1, 60), pauses=st.lists(st.integers(0, 3000), max_size=20))
def test_a_refused_client_is_admitted_after_exactly_the_wait_and_not_a_millisecond_earlier(
    script: ScriptWithClock, limit: int, pauses: list[int]
) -> None:
    def refused(at: int, rate: Rate) -> tuple[bool, int]:
        number, wait, _ = script.step(at, 0, [rate])
        return number != 0, wait

    for rate, used in (
        (requests_of("a", limit), requests_of("a", limit)),
        (tokens_of("a", limit), tokens_of("a", limit, 2 * limit + 3)),
    ):
        script.clear()
        now = 1_763_866_129_000
        for pause in [*pauses, *[0] * limit]:
            now += pause
            refused(now, used)
        stopped, wait = refused(now, rate)
        assert stopped
        assert wait > 0
        assert refused(now + wait - 1, rate) == (True, 1)
        assert not refused(now + wait, rate)[0]


def test_a_request_that_one_limit_refuses_takes_nothing_from_the_others(script: ScriptWithClock) -> None:
    script.clear()
    noon = 1_763_866_129_000
    one, other, tenant = requests_of("one", 5), requests_of("other", 5), requests_of("tenant", 2)
    assert [script.step(noon, 0, [one, tenant])[0] for _ in range(3)] == [0, 0, 2]
    assert script.step(noon, 0, [other, tenant])[::2] == [2, 0]
    assert script.step(noon, 0, [one])[2] == 3 * UNIT


def test_a_server_clock_set_back_by_an_hour_does_not_block_clients_for_an_hour(script: ScriptWithClock) -> None:
    script.clear()
    noon = 1_763_866_129_000
    asked = [requests_of("a", 2)]
    assert [script.step(noon, 0, asked)[0] for _ in range(3)] == [0, 0, 1]
    earlier = noon - 3_600_000
    assert script.step(earlier, 0, asked)[0] == 1
    assert script.step(earlier + MINUTE // 2, 0, asked)[0] == 0


def test_clients_are_evicted_to_bound_memory_while_redis_is_down() -> None:
    agent = tokens_of("agent", 1, 5)
    buckets = LocalBuckets(100, kept=agent.key)
    busy = []
    buckets.step(0, 0, [agent])
    for number in range(1000):
        buckets.step(0, 0, [requests_of(str(number), 5)])
        busy.append(buckets.step(0, 0, [requests_of("busy", 5)])[0])
    assert len(buckets) == 100
    # A client that sends requests all the time is not evicted, and neither is the limit of the agent.
    assert busy == [0] * 5 + [1] * 995
    assert buckets.step(0, 0, [agent._replace(used=0)])[2] == 5 * UNIT


def test_debts_of_the_largest_limits_are_whole_numbers() -> None:
    assert 1_000_000_000 * UNIT < 2**53
    assert 1_000_000 * UNIT < 2**53


def statuses(urls: list[str], each: int) -> list[int]:
    """Send `each` requests to each of the URLs, and return the status codes.

    Four at a time: more new connections at once could take a busy Redis longer than CONNECT_SECONDS, after which a
    service counts locally.
    """
    with ThreadPoolExecutor(4) as pool, httpx.Client(timeout=30) as client:
        return list(pool.map(lambda url: client.get(url).status_code, urls * each))


def test_two_services_that_share_a_redis_admit_as_many_as_one(
    start_service: StartService,
) -> None:
    services = [start_service(MODEL_PROVIDER="echo", RATE_LIMIT_REQUESTS="12") for _ in range(2)]
    started = time.monotonic()
    answered = statuses([f"{service.url}/" for service in services], each=20)
    came_back = math.floor((time.monotonic() - started) / 5)
    assert set(answered) == {200, 429}
    assert 12 <= answered.count(200) <= 12 + came_back
    refused = sum(service.metric('agent_rate_limited_total{reason="requests"}') for service in services)
    assert refused == answered.count(429)


def test_a_client_that_waits_for_retry_after_is_admitted(start_service: StartService) -> None:
    service = start_service(MODEL_PROVIDER="echo", RATE_LIMIT_REQUESTS="30")
    for _ in range(3):
        answer = service.get("/")
        while answer.status_code == 200:
            answer = service.get("/")
        assert answer.status_code == 429
        assert "30 requests per minute" in answer.json()["detail"]
        seconds = int(answer.headers["Retry-After"])
        assert 1 <= seconds <= 2
        # The wait itself is under test.
        time.sleep(seconds)
        assert service.get("/").status_code == 200


async def test_every_answer_has_the_limit_headers_and_probes_and_scrapes_are_not_limited(
    make_client: MakeClient,
) -> None:
    client = await make_client(model_provider="echo", rate_limit_requests=5)
    answers = [
        await client.post("/chat", json={"message": "hello"}),
        await client.post("/chat/stream", json={"message": "hello"}),
        await client.post("/chat", json={}),
        await client.get("/nowhere"),
        await client.get("/chat"),
        await client.get("/"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 422, 404, 405, 429]
    assert [answer.headers["X-RateLimit-Limit"] for answer in answers] == ["5"] * 6
    left = [int(answer.headers["X-RateLimit-Remaining"]) for answer in answers]
    assert left == [4, 3, 2, 1, 0, 0]
    assert all(0 < int(answer.headers["X-RateLimit-Reset"]) <= 60 for answer in answers)
    assert all(answer.headers["X-Request-ID"] for answer in answers)
    for path in ("/health", "/health/live", "/health/ready", "/metrics", "/page/chat.js"):
        answer = await client.get(path)
        assert answer.status_code != 429
        assert not any(name in answer.headers for name in HEADERS)


async def test_redis_keeps_clients_for_at_most_a_minute(make_client: MakeClient, redis_server: RedisServer) -> None:
    client = await make_client(rate_limit_requests=7, trusted_proxies=("127.0.0.0/8",))
    for number in range(50):
        await client.get("/", headers={"X-Forwarded-For": f"192.0.2.{number}"})
    with redis.Redis.from_url(redis_server.url) as server:
        kept = list(server.scan_iter("*:limit:*"))
        assert len(kept) == 50
        assert all(0 < server.pttl(key) <= MINUTE for key in kept)
        assert all(key.startswith(b"{portside}:") for key in kept)


def test_each_service_counts_locally_while_redis_is_down_and_shares_counts_again_afterwards(
    start_service: StartService, tmp_path: Path
) -> None:
    with running_redis(tmp_path) as server:
        service = start_service(MODEL_PROVIDER="echo", RATE_LIMIT_REQUESTS="2", REDIS_URL=server.url)

        def ask() -> int:
            return service.get("/").status_code

        assert [ask() for _ in range(3)] == [200, 200, 429]
        server.stop()
        away = [ask() for _ in range(3)]
        assert away == [200, 200, 429]
        answer = service.get("/")
        assert (answer.status_code, answer.headers["X-RateLimit-Limit"]) == (429, "2")
        server.start()
        server.command("FLUSHALL")
        # The local bucket refills one in 30 s: an earlier success was counted by Redis, whose data was flushed.
        eventually(lambda: ask() == 200, "Redis counts again")


def test_a_frozen_redis_does_not_block_clients_for_long(start_service: StartService, tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        service = start_service(MODEL_PROVIDER="echo", RATE_LIMIT_REQUESTS="100", REDIS_URL=server.url)
        assert service.get("/").status_code == 200
        server.freeze()
        try:
            answers = [httpx.get(f"{service.url}/", timeout=10) for _ in range(5)]
        finally:
            server.thaw()
        assert [answer.status_code for answer in answers] == [200] * 5
        assert answers[-1].headers["X-RateLimit-Limit"] == "100"


async def test_the_clock_of_the_process_does_not_matter(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client(rate_limit_requests=2)
    assert [(await client.get("/")).status_code for _ in range(3)] == [200, 200, 429]
    really = time.time
    for jump in (3600, -3600):
        monkeypatch.setattr(time, "time", lambda jump=jump: really() + jump)
        assert (await client.get("/")).status_code == 429


async def test_without_limits_the_headers_are_absent(make_client: MakeClient) -> None:
    client = await make_client(rate_limit_requests=0)
    answer = await client.get("/")
    assert not any(name in answer.headers for name in HEADERS)


def test_a_forwarded_address_is_ignored_by_default_with_one_warning(start_service: StartService) -> None:
    service = start_service(MODEL_PROVIDER="echo", RATE_LIMIT_REQUESTS="5")
    answered = [
        httpx.get(f"{service.url}/", headers={"X-Forwarded-For": f"192.0.2.{number}"}).status_code
        for number in range(6)
    ]
    assert answered == [200] * 5 + [429]
    assert service.log().count("X-Forwarded-For was ignored") == 1
    assert "TRUSTED_PROXIES" in service.log()


async def test_behind_trusted_proxies_the_nearest_untrusted_address_counts(
    make_client: MakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await make_client(rate_limit_requests=1, trusted_proxies="127.0.0.1, 10.0.0.0/8, 2001:db8::/32")

    async def ask(*forwarded: str) -> int:
        return (await client.get("/", headers=[("X-Forwarded-For", value) for value in forwarded])).status_code

    assert await ask("192.0.2.1") == 200
    assert await ask("192.0.2.2") == 200
    assert await ask("192.0.2.1") == 429
    # Addresses that the client wrote itself are left of the one that its proxy saw.
    assert await ask("192.0.2.77, 192.0.2.1, 10.1.2.3") == 429
    assert await ask("192.0.2.77, 192.0.2.1, ::ffff:10.1.2.3") == 429
    assert await ask("192.0.2.77", "192.0.2.1, 2001:db8::7") == 429
    assert await ask("192.0.2.77, 192.0.2.3") == 200
    assert await ask("2001:4860:1:2:3::1") == 200
    assert await ask("2001:4860:1:2:4::2") == 429
    assert await ask("2001:4860:1:3::1") == 200
    assert await ask("not an address") == 200
    assert await ask("x" * 4000) == 429
    assert "X-Forwarded-For was ignored" not in capsys.readouterr().out


def test_addresses_are_counted_by_the_network_that_a_customer_gets() -> None:
    assert network("192.0.2.1") == "192.0.2.1"
    assert network("::ffff:192.0.2.1") == "192.0.2.1"
    assert network("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::/64"
    assert network("fe80::1%eth0") == "fe80::/64"
    assert {network(hostile) for hostile in ("", "unknown", "_hidden", "1.2.3.4:80", "x" * 10_000)} == {"unknown"}


# Far more tokens than the budgets below: a few one-word messages cannot overdraw a budget by as much.
WORDY = "word " * 300


def start_with_budget(start_service: StartService, stand_in: StandIn, **settings: str) -> Service:
    return start_service(
        ANTHROPIC_API_KEY=KEY,
        ANTHROPIC_BASE_URL=stand_in.url,
        TOKENS_PER_MINUTE="50",
        RATE_LIMIT_REQUESTS="0",
        **settings,
    )


def overdrawn(service: Service) -> bool:
    return service.post("/chat", message="hello").status_code == 429


async def until_overdrawn(client: httpx.AsyncClient) -> httpx.Response:
    """Send messages until the tokens are used up; they are charged in the background."""
    async with asyncio.timeout(15):
        while (answer := await client.post("/chat", json={"message": "hello"})).status_code != 429:
            pass
    return answer


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
async def test_an_agent_without_tokens_sends_nothing_to_the_model_until_they_refill(
    make_client: MakeClient, stand_in: StandIn, path: str
) -> None:
    client = await make_client(tokens_per_minute=50, rate_limit_requests=0)
    assert (await client.post(path, json={"message": WORDY})).status_code == 200
    await until_overdrawn(client)
    asked = len(stand_in.requests())
    refused = await client.post(path, json={"message": "hello"})
    assert refused.status_code == 429
    assert "tokens" in refused.json()["detail"]
    # The stand-in receives 300 words and repeats them: more than 550 must refill, at 50 a minute.
    assert 660 < int(refused.headers["Retry-After"]) < 800
    assert "X-RateLimit-Limit" not in refused.headers
    assert len(stand_in.requests()) == asked
    assert (await client.get("/")).status_code == 200
    assert 'agent_rate_limited_total{reason="tokens"} 2.0' in (await client.get("/metrics")).text


@pytest.mark.parametrize("fault", [asking(break_at=2), asking(error="overloaded_error", after=3)])
async def test_interrupted_answers_are_charged(make_client: MakeClient, fault: str) -> None:
    client = await make_client(tokens_per_minute=50, rate_limit_requests=0, model_max_retries=0)
    assert (await client.post("/chat", json={"message": f"{fault} {WORDY}"})).status_code in {502, 503}
    refused = await until_overdrawn(client)
    assert int(refused.headers["Retry-After"]) > 200


def test_tokens_received_before_a_client_disconnected_are_charged(
    start_service: StartService, stand_in: StandIn
) -> None:
    service = start_with_budget(start_service, stand_in)
    body = {"message": asking(words=2000, slow=0.002)}
    with httpx.stream("POST", f"{service.url}/chat/stream", json=body, timeout=30) as answer:
        received = 0
        for line in answer.iter_lines():
            received += len(line)
            if received > 8_000:
                break
    eventually(lambda: stand_in.requests()[0]["state"] == "disconnected", "the call to the model has ended")
    eventually(lambda: overdrawn(service), "the tokens are charged")
    # About 150 words of 8 characters arrived.
    assert int(service.post("/chat", message="hello").headers["Retry-After"]) > 120


def test_replicas_share_the_budget_and_count_locally_while_redis_is_down(
    start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    with running_redis(tmp_path) as server:
        one, other = (start_with_budget(start_service, stand_in, REDIS_URL=server.url) for _ in range(2))
        one.post("/chat", message=WORDY)
        eventually(lambda: overdrawn(other), "the other replica knows")
        server.stop()
        assert one.post("/chat", message=WORDY).status_code == 200
        eventually(lambda: overdrawn(one), "a replica counts by itself")


async def test_deferrable_work_gets_the_time_to_wait_for_tokens(redis_server: RedisServer) -> None:
    store = Redis(redis_server.url, prefix="portside")
    terms = Terms("day", tokens=0, cost=Decimal(0), stops=True, prices=Prices())

    def limits_of(tokens_per_minute: int) -> Limits:
        return Limits(
            store,
            requests_per_minute=0,
            tokens_per_minute=tokens_per_minute,
            budget=Budget(store, terms),
            shares=Shares(store, of_client=terms, of_tenant=terms),
            history=History(store, terms.prices, days=1),
        )

    assert not limits_of(0).on, "Redis is not asked for nothing"
    limits = limits_of(60)
    assert await limits.tokens_wait() == 0
    for _ in range(90):
        limits.charge(Usage(output_tokens=1), None)
    await limits.close()
    assert 20 < await limits.tokens_wait() <= 30
    assert await limits_of(0).tokens_wait() == 0
    await store.close()


async def test_a_request_refused_for_tokens_does_not_count_against_its_client(
    make_client: MakeClient,
) -> None:
    client = await make_client(model_provider="echo", rate_limit_requests=3, tokens_per_minute=1)
    hello = {"message": "hello, and good morning"}
    assert (await client.post("/chat", json=hello)).status_code == 200
    async with asyncio.timeout(10):
        while (answer := await client.post("/chat", json=hello)).status_code == 200:
            pass
    left = answer.headers["X-RateLimit-Remaining"]
    for _ in range(5):
        answer = await client.post("/chat", json=hello)
        assert (answer.status_code, answer.headers["X-RateLimit-Remaining"]) == (429, left)
        assert "tokens" in answer.json()["detail"]
