"""Liveness, readiness and health: what turns them, and what must not."""

import asyncio
from pathlib import Path

import pytest
from httpx import ASGITransport, AsyncClient, Response

from agent_service.agent.claude import ClaudeProvider, recheck_refused_credentials
from agent_service.agent.credentials import Credentials
from agent_service.agent.errors import CredentialsRefusedError
from agent_service.app import create_app
from agent_service.settings import load
from stand_in import StandIn
from stand_in.agent import MakeClient, StartService


async def readiness(client: AsyncClient) -> tuple[int, str | None]:
    answer = await client.get("/health/ready")
    return answer.status_code, answer.json()["reason"]


async def test_a_started_service_is_live_and_ready_and_asks_the_model_nothing(
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


@pytest.mark.parametrize("fault", ["[[fault:500]]", "[[fault:529]]", "[[fault:429 retry-after=60]]", "[[break:1]]"])
async def test_an_outage_of_the_model_api_leaves_the_pod_ready(
    make_client: MakeClient, stand_in: StandIn, fault: str
) -> None:
    client = await make_client()
    stand_in.direct(fault)
    assert (await client.post("/chat", json={"message": "hello"})).status_code >= 429
    assert await readiness(client) == (200, None)


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_make_the_pod_unready_until_a_call_succeeds(
    make_client: MakeClient, stand_in: StandIn, status: int
) -> None:
    client = await make_client()
    stand_in.direct(f"[[fault:{status}]]")
    assert (await client.post("/chat", json={"message": "hello"})).status_code == 502
    assert await readiness(client) == (503, "credentials refused")
    assert (await client.get("/health/live")).status_code == 200
    stand_in.direct("")
    assert (await client.post("/chat", json={"message": "hello"})).status_code == 200
    assert await readiness(client) == (200, None)


async def test_refused_credentials_are_looked_at_again_without_a_request(stand_in: StandIn) -> None:
    """An unready pod gets no request that could show that its key works again."""
    credentials = Credentials("sk-1")
    provider = ClaudeProvider(
        model="claude-sonnet-5-5", max_tokens=10, timeout_seconds=5, credentials=credentials, base_url=stand_in.url
    )
    stand_in.direct("[[fault:401]]")
    with pytest.raises(CredentialsRefusedError):
        await provider.check()
    assert credentials.refused
    recheck = asyncio.create_task(recheck_refused_credentials(provider, credentials, every_seconds=0.02))
    try:
        async with asyncio.timeout(10):
            while len(stand_in.requests()) < 3:  # noqa: ASYNC110  # the stand-in is another process: polling is all there is
                await asyncio.sleep(0.02)
            assert credentials.refused
            stand_in.direct("")
            while credentials.refused:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        quiet = len(stand_in.requests())
        await asyncio.sleep(0.2)
        assert len(stand_in.requests()) == quiet
    finally:
        recheck.cancel()
        await provider.close()


async def health(client: AsyncClient) -> tuple[Response, dict[str, str]]:
    answer = await client.get("/health")
    return answer, {name: component["status"] for name, component in answer.json()["components"].items()}


async def test_health_names_each_component_and_costs_no_tokens(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client()
    answer, components = await health(client)
    assert answer.status_code == 200
    assert answer.json()["status"] == "healthy"
    assert components == {"model_api": "up", "memory": "up"}
    assert answer.json()["components"]["model_api"]["latency_ms"] > 0
    assert {seen["path"] for seen in stand_in.requests()} == {"/v1/messages/count_tokens"}


async def test_health_asked_often_asks_the_model_api_seldom(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client()
    await asyncio.gather(*(client.get("/health") for _ in range(20)))
    assert len(stand_in.requests()) < 20


@pytest.mark.parametrize("directive", ["[[fault:500]]", "[[fault:401]]", "[[fault:529]]"])
async def test_health_is_503_while_the_model_api_does_not_answer_well(
    make_client: MakeClient, stand_in: StandIn, directive: str
) -> None:
    client = await make_client()
    stand_in.direct(directive)
    answer, components = await health(client)
    assert answer.status_code == 503
    assert components["model_api"] == "down"


async def test_health_is_503_when_nothing_listens_at_the_model_apis_address(make_client: MakeClient) -> None:
    client = await make_client(anthropic_base_url="http://127.0.0.1:1")
    answer, components = await health(client)
    assert (answer.status_code, components["model_api"]) == (503, "down")


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
    # Another key is another chance, before any call was made with it.
    assert service.get("/health/ready").status_code == 200
    assert service.post("/chat", message="hello").status_code == 200
    assert stand_in.last()["key"] == "0002"
    swap(folder, "good-key-0003")
    assert service.post("/chat/stream", message="hello").status_code == 200
    assert stand_in.last()["key"] == "0003"
    # A file that cannot be a key, or is gone, leaves the last good one in use.
    swap(folder, "not a key")
    assert service.post("/chat", message="hello").status_code == 200
    (folder / "..data").unlink()
    assert service.post("/chat", message="hello").status_code == 200
    assert stand_in.last()["key"] == "0003"
    assert not any(key in service.log() for key in ("bad-key", "good-key", "not a key"))
