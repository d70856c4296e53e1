"""What the operator asks pods about their agent's budget: whatever they answer, it gets a number or none, in time."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from agent_operator.api.budget import Budget
from agent_operator.controller.budget import Used
from agent_operator.controller.cache import Cache
from agent_operator.controller.resources import POD, Key
from agent_operator.controller.spending import Spending
from agent_operator.manifests.form import Document
from agent_operator.manifests.labels import selector
from agent_operator.manifests.names import CONFIG_CHECKSUM, METRICS_PORT

KEY = Key("team", "support")
BUDGET = Budget(tokens=1000)
# Of loopback, and of this test alone: the port of metrics is the same on every pod.
ADDRESS = "127.86.75.30"
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def pod(checksum: str) -> Document:
    """The agent's one pod, with the settings of this checksum."""
    version = {"before": "1", "after": "2"}[checksum]
    metadata = {"namespace": "team", "name": "support-1", "resourceVersion": version, "labels": selector("support")}
    metadata["annotations"] = {CONFIG_CHECKSUM: checksum}
    return {"metadata": metadata, "status": {"podIP": ADDRESS, "conditions": [{"type": "Ready", "status": "True"}]}}


def saying(head: str, body: str = "") -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()

    return answer


async def without_end(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b"agent_else 1\n" * 10_000)
        await writer.drain()


async def silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("answer", "percent"),
    [
        (saying("200 OK", "agent_budget_used_ratio 0.42\n"), 42),
        (saying("200 OK", "<html>"), None),
        (saying("500 Broken", "agent_budget_used_ratio 0.42\n"), None),
        (saying("200 OK\r\nContent-Type: text/plain; charset=none-such", "agent_budget_used_ratio 0.42\n"), 42),
        (saying(f"302 Found\r\nLocation: http://{ADDRESS}:{METRICS_PORT}/metrics"), None),
        (saying("nonsense"), None),
        (without_end, None),
        (silent, None),
    ],
    ids=["share", "page", "error", "odd charset", "redirect", "nonsense", "endless", "silent"],
)
async def test_a_pod_may_answer_anything(answer: Answer, percent: int | None) -> None:
    requests = 0

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        requests += 1
        try:
            await answer(writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    cache, woken = Cache(), asyncio.Event()
    cache.store(POD.kind, pod("before"))
    spending = Spending(cache, lambda _: woken.set())
    assert spending.expect(KEY, BUDGET) is None
    server = await asyncio.start_server(serve, ADDRESS, METRICS_PORT)
    looking = asyncio.create_task(spending.look_on())
    try:
        async with asyncio.timeout(15):
            await woken.wait()
        assert spending.expect(KEY, BUDGET) == Used(percent)
        assert requests == 1, "it is not sent elsewhere"
    finally:
        looking.cancel()
        server.close()


async def test_a_changed_budget_is_judged_by_pods_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying("200 OK", "agent_budget_used_ratio 0.42\n")(writer)
        writer.close()

    async def told() -> Used | None:
        async with asyncio.timeout(15):
            await woken.wait()
        woken.clear()
        return spending.expect(KEY, raised, "after")

    monkeypatch.setattr("agent_operator.controller.spending.LOOK_SECONDS", 0.1)
    cache, woken = Cache(), asyncio.Event()
    cache.store(POD.kind, pod("before"))
    spending, raised = Spending(cache, lambda _: woken.set()), Budget(tokens=2000)
    spending.expect(KEY, BUDGET, "before")
    server = await asyncio.start_server(serve, ADDRESS, METRICS_PORT)
    looking = asyncio.create_task(spending.look_on())
    try:
        async with asyncio.timeout(15):
            await woken.wait()
        assert spending.expect(KEY, BUDGET, "before") == Used(42)
        assert spending.expect(KEY, BUDGET, "other settings") == Used(42), "its pods have the same budget"
        woken.clear()
        assert spending.expect(KEY, raised, "after") == Used(None)
        await asyncio.sleep(0.5)
        assert spending.expect(KEY, raised, "after") == Used(None), "pods of before tell a share of another budget"
        cache.store(POD.kind, pod("after"))
        assert await told() == Used(42)
    finally:
        looking.cancel()
        server.close()


async def test_an_agent_whose_budget_was_taken_away_is_not_asked_about() -> None:
    spending = Spending(Cache(), lambda _: None)
    spending.expect(KEY, BUDGET)
    assert spending.expect(KEY, None) is None
    assert spending.expect(KEY, BUDGET) is None, "what was known before says nothing of a new one"
