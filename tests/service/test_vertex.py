"""An agent whose model is on Vertex AI: the stand-in checks assertions and tokens as Google does."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from stand_in import StandIn
from support.agent import MakeClient
from support.clouds.server import CloudServer
from support.clouds.vertex import PROJECT, REGION, TOKEN_PATH, ServiceAccount, running_vertex
from support.runtime_gateway import MODEL

ID = "claude-sonnet-5-5@20260901"


@pytest.fixture
def account() -> ServiceAccount:
    return ServiceAccount()


@pytest.fixture
def vertex(account: ServiceAccount, stand_in: StandIn) -> Iterator[CloudServer]:
    with running_vertex(account, stand_in.url) as server:
        yield server


@pytest.fixture
def settings(vertex: CloudServer, account: ServiceAccount) -> dict[str, object]:
    return {
        "model_provider": "vertex",
        "vertex_project": PROJECT,
        "vertex_region": REGION,
        "vertex_base_url": vertex.url,
        "model_ids": {MODEL: ID},
        "google_service_account_key": account.file(vertex.url),
    }


@pytest.fixture
def write_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Return what writes the file of the key in SECRETS_DIR."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    monkeypatch.setenv("SECRETS_DIR", str(folder))
    return (folder / "GOOGLE_SERVICE_ACCOUNT_KEY").write_text


def other_key(vertex: CloudServer) -> str:
    """Return a key that Google does not know."""
    return ServiceAccount().file(vertex.url)


async def reason(client: httpx.AsyncClient) -> str | None:
    found: str | None = (await client.get("/health/ready")).json()["reason"]
    return found


def exchanges(vertex: CloudServer) -> int:
    return len([each for each in vertex.received if each.path == TOKEN_PATH])


async def test_the_built_in_agent_answers_with_one_token_for_all_calls(
    make_client: MakeClient, stand_in: StandIn, vertex: CloudServer, settings: dict[str, object]
) -> None:
    client = await make_client(**settings)
    for _ in range(3):
        answer = (await client.post("/chat", json={"message": "hello"})).json()

    assert 'heard "hello"' in answer["response"]
    assert stand_in.last()["model"] == ID
    assert exchanges(vertex) == 1


async def test_a_refused_key_makes_the_pod_unready_until_the_file_has_another(
    make_client: MakeClient,
    account: ServiceAccount,
    vertex: CloudServer,
    settings: dict[str, object],
    write_key: Callable[[str], int],
) -> None:
    write_key(other_key(vertex))
    client = await make_client(**{name: value for name, value in settings.items() if not name.startswith("google")})

    assert (await client.post("/chat", json={"message": "hello"})).status_code == 502
    assert await reason(client) == "credentials refused"

    write_key(account.file(vertex.url))
    assert (await client.post("/chat", json={"message": "hello"})).status_code == 200
    assert await reason(client) is None


async def test_a_token_endpoint_that_is_down_is_no_refused_key(
    make_client: MakeClient, account: ServiceAccount, settings: dict[str, object]
) -> None:
    account.down = True
    client = await make_client(**settings)
    found = await client.post("/chat", json={"message": "hello"})

    assert found.status_code == 503
    assert await reason(client) != "credentials refused"


async def test_a_token_that_google_revoked_is_a_refused_credential(
    make_client: MakeClient, account: ServiceAccount, settings: dict[str, object]
) -> None:
    client = await make_client(**settings)
    assert (await client.post("/chat", json={"message": "hello"})).status_code == 200
    # Until there is another token.
    account.down = True
    account.tokens.clear()
    found = await client.post("/chat", json={"message": "hello"})

    assert found.status_code == 502
    assert await reason(client) == "credentials refused"
