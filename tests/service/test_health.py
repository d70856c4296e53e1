"""Liveness, readiness and health: what changes them, and what must not."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx import ASGITransport, AsyncClient

from agent_service.agent.claude.anthropic_api import AnthropicApi
from agent_service.agent.claude.credentials import ApiKey, ApiKeys, Credentials, Token
from agent_service.agent.claude.provider import ClaudeProvider
from agent_service.agent.errors import UnreachableError
from agent_service.app import create_app
from agent_service.config.loading import load
from agent_service.health.checks import Check, running
from stand_in import StandIn, running_stand_in
from support.agent import KEY, MakeClient, StartService
from support.eventually import eventually
from support.redis_server import running_redis

pytestmark = pytest.mark.timing


@pytest.fixture(scope="module")
def stand_in_process() -> Iterator[StandIn]:
    """Run a stand-in for these tests only: the service that tests share checks the shared one every half minute."""
    with running_stand_in() as stand_in:
        yield stand_in


async def readiness(client: AsyncClient) -> tuple[int, str | None]:
    answer = await client.get("/health/ready")
    return answer.status_code, answer.json()["reason"]


async def test_a_started_service_is_live_and_ready_without_calling_the_model(
    make_client: MakeClient, stand_in: StandIn
) -> None:
    client = await make_client()
    assert (await client.get("/health/live")).json() == {"alive": True}
    assert await readiness(client) == (200, None)
    assert stand_in.requests() == []


async def test_a_service_that_has_not_started_is_live_but_not_ready() -> None:
    app = create_app(load(model_provider="echo", redis_url="unix:///nowhere"))
    async with AsyncClient(transport=ASGITransport(app), base_url="http://agent") as client:
        assert await readiness(client) == (503, "starting")
        assert (await client.get("/health/live")).status_code == 200


@pytest.mark.parametrize("fault", [{"fault": 500}, {"fault": 529}, {"fault": 429, "retry_after": 60}, {"break_at": 1}])
async def test_an_outage_of_the_model_api_leaves_the_pod_ready(
    make_client: MakeClient, stand_in: StandIn, fault: dict[str, int]
) -> None:
    client = await make_client()
    stand_in.behave(**fault)
    assert (await client.post("/chat", json={"message": "hello"})).status_code >= 429
    assert await readiness(client) == (200, None)


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_make_the_pod_unready_until_a_call_succeeds(
    make_client: MakeClient, stand_in: StandIn, status: int
) -> None:
    client = await make_client()
    stand_in.behave(fault=status)
    assert (await client.post("/chat", json={"message": "hello"})).status_code == 502
    assert await readiness(client) == (503, "credentials refused")
    assert (await client.get("/health/live")).status_code == 200
    stand_in.behave()
    assert (await client.post("/chat", json={"message": "hello"})).status_code == 200
    assert await readiness(client) == (200, None)


async def test_refused_credentials_are_rechecked_without_a_request(stand_in: StandIn) -> None:
    """An unready pod gets no request that could show that its key works again."""
    credentials: Credentials[ApiKey | Token] = Credentials(ApiKeys(KEY))
    provider = ClaudeProvider(AnthropicApi(credentials, stand_in.url), model="claude-sonnet-5-5", max_tokens=10)

    async def ask() -> str:
        await provider.check()
        return "fine"

    stand_in.behave(fault=401)
    check = Check(ask, every_seconds=0.02, quiet_seconds=60)
    async with running({"model_api": check}):
        await asyncio.to_thread(eventually, lambda: credentials.refused, "the check finds the key refused")
        stand_in.behave()
        await asyncio.to_thread(eventually, lambda: not credentials.refused, "the check finds the key accepted")
        seen = len(stand_in.checks())
        await asyncio.sleep(0.2)
        assert len(stand_in.checks()) == seen, "while all is well it asks seldom"
    await provider.close()


async def test_a_key_without_permission_to_count_tokens_is_not_an_outage(
    make_client: MakeClient, stand_in: StandIn
) -> None:
    stand_in.behave(fault=403)
    client = await make_client()
    components = await health(client, status=200)
    assert components["model_api"]["status"] == "up"
    assert await readiness(client) == (200, None)


async def test_a_refused_key_makes_the_pod_unready_before_any_request(
    make_client: MakeClient, stand_in: StandIn
) -> None:
    stand_in.behave(fault=401)
    client = await make_client()
    await health(client, status=503)
    assert await readiness(client) == (503, "credentials refused")
    assert "agent_model_credentials_refused 1.0" in (await client.get("/metrics")).text


@pytest.mark.parametrize("processes", [1, 2])
def test_metrics_report_a_refused_key_until_it_is_replaced_or_accepted(
    start_service: StartService, stand_in: StandIn, tmp_path: Path, processes: int
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    swap(folder, "good-key-0001")
    service = start_service(SECRETS_DIR=str(folder), ANTHROPIC_BASE_URL=stand_in.url, API_WORKERS=str(processes))

    def refused() -> bool:
        return service.metric("agent_model_credentials_refused") == 1

    assert not refused()
    swap(folder, "bad-key-0002")
    service.post("/chat", message="hello")
    assert refused()
    swap(folder, "good-key-0003")

    def looked_at() -> bool:
        """Each process finds the new key for itself: on a probe, or when it checks the model API."""
        service.get("/health/ready")
        return not refused()

    eventually(looked_at, "the new key is found")
    stand_in.behave(fault=401)
    service.post("/chat", message="hello")
    assert refused()
    stand_in.behave()

    def asked() -> bool:
        service.post("/chat", message="hello")
        return not refused()

    eventually(asked, "the same key is accepted again")


async def health(client: AsyncClient, *, status: int) -> dict[str, Any]:
    """Return the components once each has been checked; the answer must have this status."""
    deadline = time.monotonic() + 15
    while True:
        answer = await client.get("/health")
        components: dict[str, Any] = answer.json()["components"]
        if all(component["status"] != "unknown" for component in components.values()):
            break
        assert answer.status_code == 503, "what is not known is not healthy"
        assert time.monotonic() < deadline, components
        await asyncio.sleep(0.02)
    assert answer.status_code == status, components
    assert answer.json()["status"] == ("healthy" if status == 200 else "unhealthy")
    return components


async def test_health_names_each_component_and_costs_no_tokens(make_client: MakeClient, stand_in: StandIn) -> None:
    components = await health(await make_client(), status=200)
    assert {name: component["status"] for name, component in components.items()} == {
        "model_api": "up",
        "redis": "up",
        "queue": "up",
        "memory": "up",
    }
    assert components["model_api"]["latency_ms"] > 0
    assert 0 <= components["model_api"]["checked_seconds_ago"] < 15
    assert stand_in.requests() == []
    assert len(stand_in.checks()) == 1


async def test_frequent_health_requests_add_no_checks(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client()
    await health(client, status=200)
    await asyncio.gather(*(client.get("/health") for _ in range(50)))
    assert len(stand_in.checks()) == 1


@pytest.mark.parametrize("status", [500, 401, 529])
async def test_health_is_503_while_the_model_api_fails(make_client: MakeClient, stand_in: StandIn, status: int) -> None:
    stand_in.behave(fault=status)
    components = await health(await make_client(), status=503)
    assert (components["model_api"]["status"], components["redis"]["status"]) == ("down", "up")


async def test_health_is_503_when_nothing_listens_at_the_model_apis_address(make_client: MakeClient) -> None:
    components = await health(await make_client(anthropic_base_url="http://127.0.0.1:1"), status=503)
    assert components["model_api"]["status"] == "down"
    assert "Cannot connect" in components["model_api"]["detail"]


def test_a_silent_model_api_delays_neither_the_start_nor_any_answer(
    start_service: StartService, stand_in: StandIn
) -> None:
    stand_in.behave(stall=60)
    service = start_service(MODEL_PROVIDER="anthropic", ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url)
    eventually(lambda: len(stand_in.checks()) == 1, "the check is under way")
    first = service.get("/health").json()["components"]["model_api"]
    assert first["status"] == "unknown"
    assert service.get("/health/ready").status_code == 200
    assert service.get("/health/live").status_code == 200

    def reported() -> bool:
        component: dict[str, Any] = service.get("/health").json()["components"]["model_api"]
        return component["status"] == "down" and "did not answer" in component["detail"]

    eventually(reported, "the silence is reported")
    assert service.get("/health/ready").status_code == 200


def test_without_redis_health_is_503_and_the_pod_stays_ready(
    start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    with running_redis(tmp_path) as redis:
        redis.freeze()
        service = start_service(ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url, REDIS_URL=redis.url)

        def state() -> str:
            status: str = service.get("/health").json()["components"]["redis"]["status"]
            return status

        eventually(lambda: state() == "down", "the frozen Redis is reported")
        assert service.get("/health").status_code == 503
        assert service.get("/health/ready").status_code == 200
        redis.thaw()
        eventually(lambda: state() == "up", "the thawed Redis is reported", 30)
        assert service.get("/health").status_code == 200


def test_a_process_that_cannot_run_is_not_live(start_service: StartService) -> None:
    service = start_service(MODEL_PROVIDER="echo")
    os.kill(service.process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(httpx.TimeoutException):
            httpx.get(f"{service.url}/health/live", timeout=1)
    finally:
        os.kill(service.process.pid, signal.SIGCONT)
    assert service.get("/health/live").json() == {"alive": True}


async def test_a_check_that_hangs_and_cannot_be_cancelled_is_down() -> None:
    asked = 0
    hanging = asyncio.Event()

    async def ask() -> str:
        nonlocal asked
        asked += 1
        if asked > 1:
            try:
                await hanging.wait()
            except asyncio.CancelledError:
                await hanging.wait()
        return "fine"

    check = Check(ask, every_seconds=0.01, limit_seconds=0.05)

    def up() -> bool | None:
        finding = check.finding()
        return None if finding is None else finding.up

    async with running({"part": check}):
        await asyncio.to_thread(eventually, lambda: up() is True, "the first answer is known")
        await asyncio.to_thread(eventually, lambda: up() is False, "what was known is too old")
        hanging.set()


async def test_a_check_continues_after_an_unexpected_error() -> None:
    faults: list[Exception] = [RuntimeError("private words"), UnreachableError("There is no connection.")]

    async def ask() -> str:
        if faults:
            raise faults.pop(0)
        return "fine"

    seen: list[str] = []
    check = Check(ask, every_seconds=0.02)

    def note() -> bool:
        finding = check.finding()
        if finding is not None and finding.detail not in seen:
            seen.append(finding.detail)
        return "fine" in seen

    async with running({"part": check}):
        await asyncio.to_thread(eventually, note, "it is well again")
    assert "private words" not in " ".join(seen)


def swap(folder: Path, key: str) -> None:
    """Replace the key as the kubelet does: a new folder behind a symbolic link that is renamed into place."""
    version = folder / f"..{key}"
    version.mkdir()
    (version / "ANTHROPIC_API_KEY").write_text(key + "\n")
    link = folder / "..data_tmp"
    link.symlink_to(version.name)
    link.rename(folder / "..data")
    named = folder / "ANTHROPIC_API_KEY"
    if not named.is_symlink():
        named.symlink_to("..data/ANTHROPIC_API_KEY")


def test_a_changed_key_file_is_used_from_the_next_request_on(
    start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    swap(folder, "bad-key-0001")
    service = start_service(SECRETS_DIR=str(folder), ANTHROPIC_BASE_URL=stand_in.url)
    assert service.post("/chat", message="hello").status_code == 502
    assert service.get("/health/ready").json()["reason"] == "credentials refused"
    swap(folder, "good-key-0002")
    # A new key makes the pod ready before any call is made with it.
    assert service.get("/health/ready").status_code == 200
    assert service.post("/chat", message="hello").status_code == 200
    assert stand_in.last()["key"] == "0002"
    swap(folder, "good-key-0003")
    assert service.post("/chat/stream", message="hello").status_code == 200
    assert stand_in.last()["key"] == "0003"
    # An invalid or missing file leaves the last valid key in use.
    swap(folder, "not a key")
    assert service.post("/chat", message="hello").status_code == 200
    (folder / "..data").unlink()
    assert service.post("/chat", message="hello").status_code == 200
    assert stand_in.last()["key"] == "0003"
    assert not any(key in service.log() for key in ("bad-key", "good-key", "not a key"))
