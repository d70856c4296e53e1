"""The cache, which must ignore stale events, and the queue, which must neither lose nor duplicate work."""

import asyncio
from typing import Any

import pytest

from agent_operator.controller.work_queue import FIRST_BACKOFF_SECONDS, LAST_BACKOFF_SECONDS, WorkQueue, backoff
from agent_operator.kube.cache import Cache
from agent_operator.kube.resources import Key

HELLO = Key("prod", "hello")
SECONDS = 10


def child(version: int, name: str = "hello", **content: Any) -> dict[str, Any]:
    owner = {"kind": "AgentDeployment", "name": "hello", "uid": "1", "controller": True}
    metadata = {"name": name, "namespace": "prod", "resourceVersion": str(version), "ownerReferences": [owner]}
    return {"metadata": metadata, **content}


def test_an_event_of_a_child_enqueues_its_agent() -> None:
    cache = Cache()

    assert cache.store("Service", child(1)) == HELLO
    assert [kind for kind, _ in cache.children(HELLO)] == ["Service"]


def test_a_stale_event_is_ignored() -> None:
    cache = Cache()
    cache.store("Service", child(10, spec="new"))

    assert cache.store("Service", child(9, spec="old")) is None
    assert cache.store("Service", child(10, spec="same")) is None
    assert cache.remove("Service", child(9)) is None
    found = cache.get("Service", "prod", "hello")
    assert found is not None
    assert found["spec"] == "new"


def test_versions_are_compared_as_numbers() -> None:
    cache = Cache()
    cache.store("Service", child(9))

    assert cache.store("Service", child(10)) == HELLO


def test_a_list_adds_new_objects_and_removes_deleted_ones() -> None:
    cache = Cache()
    cache.store("Service", child(1, "gone"))
    cache.store("Service", child(2, "stays"))
    cache.store("Service", child(30, "younger-than-the-list"))
    cache.store("ConfigMap", child(3, "of-another-kind"))

    assert cache.replace("Service", None, [child(2, "stays"), child(4, "new")], "20") == {HELLO}

    assert {document["metadata"]["name"] for _, document in cache.children(HELLO)} == {
        "stays",
        "new",
        "younger-than-the-list",
        "of-another-kind",
    }


def test_a_list_of_one_namespace_does_not_affect_another() -> None:
    cache = Cache()
    cache.store("Service", child(1))

    assert cache.replace("Service", "dev", [], "20") == set()
    assert cache.get("Service", "prod", "hello") is not None


def test_a_pod_belongs_to_the_agent_in_its_label() -> None:
    cache = Cache()
    labels = {"app.kubernetes.io/instance": "hello"}
    metadata = {"name": "hello-1", "namespace": "prod", "resourceVersion": "1", "labels": labels}

    assert cache.store("Pod", {"metadata": metadata, "spec": {"nodeName": "x"}, "status": {}}) == HELLO
    assert [pod["metadata"]["name"] for pod in cache.pods(HELLO)] == ["hello-1"]
    assert cache.children(HELLO) == []


def never(key: str, error: Exception, delay: float) -> None:
    """Fail the test: this work must not fail."""
    pytest.fail(f"{key} failed: {error}, again in {delay} s")


async def until_idle(queue: WorkQueue[str], done: asyncio.Event) -> None:
    worker = asyncio.create_task(queue.run(4))
    try:
        await asyncio.wait_for(done.wait(), SECONDS)
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def test_a_key_queued_for_many_reasons_is_processed_once() -> None:
    seen: list[str] = []
    done = asyncio.Event()

    async def work(key: str) -> None:
        seen.append(key)
        if key == "last":
            done.set()

    queue: WorkQueue[str] = WorkQueue(work, never)
    for key in ("a", "a", "b", "a", "last"):
        queue.add(key)
    await until_idle(queue, done)

    assert seen == ["a", "b", "last"]


async def test_a_key_is_never_processed_concurrently_and_events_during_processing_are_not_lost() -> None:
    active, most, runs = 0, 0, 0
    done = asyncio.Event()

    async def work(key: str) -> None:
        nonlocal active, most, runs
        active, runs = active + 1, runs + 1
        most = max(most, active)
        if runs == 1:
            queue.add(key)
        await asyncio.sleep(0)
        active -= 1
        if runs == 2:
            done.set()

    queue: WorkQueue[str] = WorkQueue(work, never)
    queue.add("a")
    await until_idle(queue, done)

    assert (most, runs) == (1, 2)


async def test_failed_work_is_retried_and_reported() -> None:
    reported: list[str] = []
    done = asyncio.Event()
    runs = 0

    async def work(key: str) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("boom")
        done.set()

    queue: WorkQueue[str] = WorkQueue(work, lambda key, error, delay: reported.append(f"{key} {error}"))
    queue.add("a")
    await until_idle(queue, done)

    assert reported == ["a boom"]


async def test_work_that_asks_for_a_requeue_is_queued_again() -> None:
    done = asyncio.Event()
    runs = 0

    async def work(key: str) -> float | None:
        nonlocal runs
        runs += 1
        if runs == 2:
            done.set()
        return 0.01 if runs == 1 else None

    queue: WorkQueue[str] = WorkQueue(work, never)
    queue.add("a")
    await until_idle(queue, done)

    assert runs == 2


@pytest.mark.parametrize("failures", [0, 3, 10, 10_000])
def test_the_backoff_grows_to_its_limit_with_jitter(failures: int) -> None:
    middle = min(FIRST_BACKOFF_SECONDS * 2 ** min(failures, 20), LAST_BACKOFF_SECONDS)

    delays = [backoff(failures) for _ in range(100)]

    assert all(middle * 0.5 <= delay <= middle * 1.5 for delay in delays)
    assert len(set(delays)) > 1
