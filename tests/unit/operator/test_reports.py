"""Polling pods for their agent's budget: any response yields a number or None, in time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest

from agent_operator.api.budget import Budget
from agent_operator.controller.status.budget import Used
from agent_operator.controller.status.settling import SILENT, UP, Reading
from agent_operator.controller.watch.pod_reports import Reports
from agent_operator.kube.cache import Cache
from agent_operator.kube.resources import POD, Key
from agent_operator.manifests.document import Document
from agent_operator.manifests.labels import selector
from agent_operator.manifests.names import CONFIG_CHECKSUM, METRICS_PORT

KEY = Key("team", "support")
BUDGET, RAISED = Budget(tokens=1000), Budget(tokens=2000)
# Loopback addresses for these tests alone: the port of metrics is the same on every pod.
ADDRESS, ADDRESS_AFTER = "127.86.75.30", "127.86.75.31"
ALL_UP = 'agent_dependency_up{component="model_api"} 1.0\nagent_dependency_up{component="redis"} 1.0\n'
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def pod(checksum: str) -> Document:
    """Return a ready pod of the agent with the settings of this checksum. The old pod comes first by name."""
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
    reports = Reports(cache, lambda _: woken.set())
    assert reports.expect(KEY, BUDGET).used is None
    server = await asyncio.start_server(serve, ADDRESS, METRICS_PORT)
    looking = asyncio.create_task(reports.collect())
    try:
        async with asyncio.timeout(15):
            await woken.wait()
        assert reports.expect(KEY, BUDGET).used == Used(percent)
        assert requests == 1, "it is not sent elsewhere"
    finally:
        looking.cancel()
        server.close()


class Rollout:
    """An agent whose old pod reports that its budget is used up, and whose new pod reports that half of it is."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self._woken = asyncio.Event()
        self.reports = Reports(self.cache, lambda _: self._woken.set())

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
            looking = asyncio.create_task(self.reports.collect())
            stack.callback(looking.cancel)
            yield

    async def _answer(self, checksum: str, share: float, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.put_nowait(checksum)
        await saying("200 OK", f"agent_budget_used_ratio {share}\n{ALL_UP}")(writer)
        writer.close()


@pytest.fixture
def rollout(monkeypatch: pytest.MonkeyPatch) -> Rollout:
    for pause in ("BUDGET", "POLL", "CONFIRM", "NO_POD", "TICK"):
        monkeypatch.setattr(f"agent_operator.controller.watch.pod_reports.{pause}_SECONDS", 0.1)
    # On a busy machine these pods take longer to answer than real ones are allowed to.
    monkeypatch.setattr("agent_operator.controller.watch.pod_reports.ANSWER_SECONDS", 15.0)
    return Rollout()


async def test_a_changed_budget_is_judged_by_pods_that_have_it(rollout: Rollout) -> None:
    reports = rollout.reports
    rollout.cache.store(POD.kind, pod("before"))
    reports.expect(KEY, BUDGET, "before")
    async with rollout.running():
        await rollout.news()
        assert reports.expect(KEY, BUDGET, "before").used == Used(100)
        assert reports.expect(KEY, BUDGET, "other settings").used == Used(100), "its pods have the same budget"
        assert reports.expect(KEY, RAISED, "after").used == Used(None)
        await asyncio.sleep(0.5)
        assert reports.expect(KEY, RAISED, "after").used == Used(None), "earlier pods report a share of another budget"
        rollout.cache.store(POD.kind, pod("after"))
        await rollout.news()
        assert reports.expect(KEY, RAISED, "after").used == Used(50)
        # The earlier pod was asked until then.
        while await rollout.next_asked() != "after":
            pass
        assert [await rollout.next_asked() for _ in range(3)] == ["after"] * 3, "as long as both are there"
        assert reports.expect(KEY, RAISED, "after").used == Used(50)


@pytest.mark.parametrize("changes", [1, 100])
async def test_pods_with_the_changed_budget_are_polled_while_later_rollouts_are_stuck(
    rollout: Rollout, changes: int
) -> None:
    reports = rollout.reports
    reports.expect(KEY, BUDGET, "before")
    reports.expect(KEY, RAISED, "after")
    for checksum in ("before", "after"):
        rollout.cache.store(POD.kind, pod(checksum))
    for change in range(changes):
        assert reports.expect(KEY, RAISED, f"change {change}").used == Used(None)
    async with rollout.running():
        await rollout.news()
        assert reports.expect(KEY, RAISED, f"change {changes - 1}").used == Used(50)


async def test_an_agent_whose_budget_was_removed_is_not_polled() -> None:
    reports = Reports(Cache(), lambda _: None)
    reports.expect(KEY, BUDGET)
    assert reports.expect(KEY, None).used is None
    assert reports.expect(KEY, BUDGET).used is None, "what was known before says nothing of a new one"


def down(component: str, kind: str) -> str:
    series = f'agent_dependency_failing{{component="{component}",kind="{kind}"}} 1.0'
    return f'agent_dependency_up{{component="{component}"}} 0.0\n{series}\n'


class Outage:
    """An agent of two pods, which report the state of their dependencies that a test sets."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.metrics = {ADDRESS: ALL_UP, ADDRESS_AFTER: ALL_UP}
        self.changes = 0
        self.reports = Reports(self.cache, self._changed)

    def _changed(self, _: Key) -> None:
        self.changes += 1

    @property
    def known(self) -> Reading | None:
        return self.reports.expect(KEY, None).dependencies

    async def until(self, known: Reading) -> None:
        try:
            async with asyncio.timeout(30):
                while self.known != known:  # noqa: ASYNC110  the reports have no event for their end
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"last known: {self.known}")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        for checksum in ("before", "after"):
            self.cache.store(POD.kind, pod(checksum))
        self.reports.expect(KEY, None)
        async with AsyncExitStack() as stack:
            for address in self.metrics:
                answer = partial(self._answer, address)
                await stack.enter_async_context(await asyncio.start_server(answer, address, METRICS_PORT))
            looking = asyncio.create_task(self.reports.collect())
            stack.callback(looking.cancel)
            yield

    async def _answer(self, address: str, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying("200 OK", self.metrics[address])(writer)
        writer.close()


@pytest.fixture
def outage(rollout: Rollout) -> Outage:
    return Outage()


async def test_an_outage_that_all_pods_report_is_recorded_until_it_ends(outage: Outage) -> None:
    async with outage.running():
        await outage.until({"model_api": UP, "redis": UP})
        outage.metrics = dict.fromkeys(outage.metrics, ALL_UP.replace('"redis"} 1', '"redis"} 0'))
        await outage.until({"model_api": UP, "redis": "other"})
        outage.metrics = dict.fromkeys(outage.metrics, down("redis", "full") + down("model_api", "dns"))
        await outage.until({"model_api": "dns", "redis": "full"})
        outage.metrics = dict.fromkeys(outage.metrics, ALL_UP)
        await outage.until({"model_api": UP, "redis": UP})


async def test_a_failure_of_one_pod_is_not_an_outage(outage: Outage) -> None:
    outage.metrics[ADDRESS] = down("redis", "unreachable") + down("model_api", "dns")
    async with outage.running():
        await outage.until({"model_api": UP, "redis": UP})
        await asyncio.sleep(1)
        assert outage.known == {"model_api": UP, "redis": UP}
        assert outage.changes == 1


async def test_pods_that_do_not_answer_are_recorded_as_such(outage: Outage) -> None:
    outage.cache.store(POD.kind, pod("before"))
    outage.reports.expect(KEY, None)
    looking = asyncio.create_task(outage.reports.collect())
    try:
        await outage.until({"model_api": SILENT, "redis": SILENT})
    finally:
        looking.cancel()


def listing(value: int) -> str:
    return f'{ALL_UP}agent_tool_server_up{{server="search"}} 1.0\nagent_tool_list_hash{{server="search"}} {value}.0\n'


async def test_a_list_of_tools_counts_once_the_pods_with_the_current_settings_agree_on_it(outage: Outage) -> None:
    outage.metrics = {ADDRESS: listing(10), ADDRESS_AFTER: listing(10)}
    first, second = ({"search": f"{value:012x}"} for value in (10, 11))

    async def until(settings: str, lists: Reading) -> None:
        async with asyncio.timeout(30):
            while outage.reports.expect(KEY, None, settings).tool_lists != lists:  # noqa: ASYNC110  as above
                await asyncio.sleep(0.02)

    async with outage.running():
        await until("before", first)
        # The only pod with these settings.
        outage.metrics[ADDRESS_AFTER] = listing(11)
        await until("after", second)
        assert outage.reports.expect(KEY, None, "before").tool_lists == {}, "what another pod reports does not count"
        await until("before", first)
        for checksum in ("before", "after"):
            outage.cache.store(POD.kind, with_settings(pod(checksum), "before"))
        outage.metrics = {ADDRESS: listing(11), ADDRESS_AFTER: listing(10)}
        await until("before", {})
        outage.metrics[ADDRESS_AFTER] = listing(11)
        await until("before", second)


def with_settings(pod: Document, checksum: str) -> Document:
    pod["metadata"] |= {"annotations": {CONFIG_CHECKSUM: checksum}, "resourceVersion": "2"}
    return pod
