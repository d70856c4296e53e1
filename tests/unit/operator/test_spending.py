"""What the operator asks pods about their agent's budget: whatever they answer, it gets a number or none, in time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

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
BUDGET, RAISED = Budget(tokens=1000), Budget(tokens=2000)
# Of loopback, and of these tests alone: the port of metrics is the same on every pod.
ADDRESS, ADDRESS_AFTER = "127.86.75.30", "127.86.75.31"
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def pod(checksum: str) -> Document:
    """A ready pod of the agent, with the settings of this checksum. That of before comes first by name."""
    name, address = {"before": ("support-1", ADDRESS), "after": ("support-2", ADDRESS_AFTER)}[checksum]
    metadata = {"namespace": "team", "name": name, "resourceVersion": "1", "labels": selector("support")}
    metadata["annotations"] = {CONFIG_CHECKSUM: checksum}
    return {"metadata": metadata, "status": {"podIP": address, "conditions": [{"type": "Ready", "status": "True"}]}}


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


class Rollout:
    """An agent of which the pod of before says that its budget is used up, that of after that half of it is."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self._woken = asyncio.Event()
        self.spending = Spending(self.cache, lambda _: self._woken.set())

    async def news(self) -> None:
        async with asyncio.timeout(15):
            await self._woken.wait()
        self._woken.clear()

    async def next_asked(self) -> str:
        async with asyncio.timeout(15):
            return await self.asked.get()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for checksum, address, share in (("before", ADDRESS, 1.0), ("after", ADDRESS_AFTER, 0.5)):
                answer = partial(self._answer, checksum, share)
                await stack.enter_async_context(await asyncio.start_server(answer, address, METRICS_PORT))
            looking = asyncio.create_task(self.spending.look_on())
            stack.callback(looking.cancel)
            yield

    async def _answer(self, checksum: str, share: float, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.put_nowait(checksum)
        await saying("200 OK", f"agent_budget_used_ratio {share}\n")(writer)
        writer.close()


@pytest.fixture
def rollout(monkeypatch: pytest.MonkeyPatch) -> Rollout:
    monkeypatch.setattr("agent_operator.controller.spending.LOOK_SECONDS", 0.1)
    # On a busy machine these pods take longer to answer than real ones may.
    monkeypatch.setattr("agent_operator.controller.spending.ANSWER_SECONDS", 15.0)
    return Rollout()


async def test_a_changed_budget_is_judged_by_pods_that_have_it(rollout: Rollout) -> None:
    spending = rollout.spending
    rollout.cache.store(POD.kind, pod("before"))
    spending.expect(KEY, BUDGET, "before")
    async with rollout.running():
        await rollout.news()
        assert spending.expect(KEY, BUDGET, "before") == Used(100)
        assert spending.expect(KEY, BUDGET, "other settings") == Used(100), "its pods have the same budget"
        assert spending.expect(KEY, RAISED, "after") == Used(None)
        await asyncio.sleep(0.5)
        assert spending.expect(KEY, RAISED, "after") == Used(None), "pods of before tell a share of another budget"
        while not rollout.asked.empty():
            rollout.asked.get_nowait()
        rollout.cache.store(POD.kind, pod("after"))
        await rollout.news()
        assert spending.expect(KEY, RAISED, "after") == Used(50)
        assert [await rollout.next_asked() for _ in range(3)] == ["after"] * 3, "as long as both are there"
        assert spending.expect(KEY, RAISED, "after") == Used(50)


@pytest.mark.parametrize("changes", [1, 100])
async def test_pods_with_the_changed_budget_are_asked_while_later_changes_stick(rollout: Rollout, changes: int) -> None:
    spending = rollout.spending
    spending.expect(KEY, BUDGET, "before")
    spending.expect(KEY, RAISED, "after")
    for checksum in ("before", "after"):
        rollout.cache.store(POD.kind, pod(checksum))
    for change in range(changes):
        assert spending.expect(KEY, RAISED, f"change {change}") == Used(None)
    async with rollout.running():
        await rollout.news()
        assert spending.expect(KEY, RAISED, f"change {changes - 1}") == Used(50)


async def test_an_agent_whose_budget_was_taken_away_is_not_asked_about() -> None:
    spending = Spending(Cache(), lambda _: None)
    spending.expect(KEY, BUDGET)
    assert spending.expect(KEY, None) is None
    assert spending.expect(KEY, BUDGET) is None, "what was known before says nothing of a new one"
