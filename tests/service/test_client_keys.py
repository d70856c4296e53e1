"""Client keys: which requests need one, how keys change, and that they are never exposed."""

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.agent import MakeClient, Service, StartService, running_service
from support.redis_server import RedisServer

ONE = "client-key-one-0123456789"
TWO = "client-key-two-9876543210"
NEW = "client-key-new-5555555555"


def chat(service: Service, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(f"{service.url}/chat", json={"message": "hello"}, headers=headers, timeout=30)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def service(redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(
        tmp_path_factory.mktemp("keys"),
        MODEL_PROVIDER="echo",
        API_KEYS=f"{ONE},{TWO}",
        RATE_LIMIT_REQUESTS="0",
        REDIS_URL=redis_process.url,
        LOG_LEVEL="DEBUG",
    ) as running:
        yield running


def test_each_key_is_accepted_in_either_header(service: Service) -> None:
    right = [
        bearer(ONE),
        bearer(TWO),
        {"Authorization": f"bearer  {ONE}"},
        {"X-API-Key": ONE},
        {"x-api-key": TWO},
        {"X-API-Key": ONE, "Authorization": "Basic Z2F0ZXdheTpzZWNyZXQ="},
        {"X-API-Key": ONE, "Authorization": "Bearer of-the-gateway"},
    ]
    assert [chat(service, headers).status_code for headers in right] == [200] * len(right)


def test_an_invalid_key_gets_401_with_a_challenge_and_a_hint_and_is_not_logged(service: Service) -> None:
    wrong = ["x", ONE[:-1], ONE + "x", ONE.upper(), f"{ONE},{TWO}", "\xff\xfe", "x" * 5000]
    attempts = [{}, {"Authorization": ONE}, {"Authorization": f"Basic {ONE}"}, {"Authorization": "Bearer"}]
    attempts += [{"X-API-Key": ""}]
    for key in wrong:
        attempts += [bearer(key), {"X-API-Key": key}]
    for headers in attempts:
        answer = httpx.post(
            f"{service.url}/chat",
            json={"message": "hello"},
            headers=[(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        )
        assert answer.status_code == 401, headers
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        assert "Authorization: Bearer <key>" in answer.json()["detail"]
        assert "X-API-Key: <key>" in answer.json()["detail"]
        assert set(answer.json()) == {"detail"}
        assert answer.headers["X-Request-ID"]
    assert 'error="invalid_token"' in chat(service, bearer("x")).headers["WWW-Authenticate"]
    assert "error" not in chat(service, {}).headers["WWW-Authenticate"]
    assert chat(service, bearer(ONE)).status_code == 200
    assert not any(key in service.log() for key in (ONE, TWO, ONE[:-1], ONE.upper()))
    assert "Traceback" not in service.log()


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/openapi.json", "/health", "/health/live", "/health/ready", "/metrics"]
)
def test_probes_metrics_and_the_pages_about_the_service_need_no_key(service: Service, path: str) -> None:
    # /health is 503 until every component has been checked once.
    assert service.get(path).status_code in ({200, 503} if path == "/health" else {200})


@pytest.mark.parametrize(
    "path", ["/chat", "/chat/", "/chat/stream", "//", "/nowhere", "/tasks", "/health/live/../../chat", "/page", "/%2e/"]
)
def test_everything_else_needs_a_key(service: Service, path: str) -> None:
    assert service.get(path).status_code == 401
    assert service.post(path, message="hello").status_code == 401


def test_a_request_without_a_key_is_refused_before_its_body_arrives(service: Service) -> None:
    address = ("127.0.0.1", int(service.url.rsplit(":", 1)[1]))
    with socket.create_connection(address, timeout=10) as sender:
        sender.sendall(b"POST /chat HTTP/1.1\r\nHost: agent\r\nContent-Length: 100000\r\n\r\n")
        assert sender.recv(65536).startswith(b"HTTP/1.1 401 ")


async def test_a_browser_of_an_allowed_origin_can_preflight_a_request_with_a_key(make_client: MakeClient) -> None:
    client = await make_client(api_keys=ONE, cors_origins=("https://console.example",))
    origin = {"Origin": "https://console.example"}
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}
    preflight = await client.options("/chat", headers={**origin, **wanted})
    assert preflight.status_code == 200
    refused = await client.post("/chat", headers=origin)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://console.example"
    exposed = refused.headers["access-control-expose-headers"]
    for name in ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After", "X-Request-ID"):
        assert name in exposed


async def test_credentials_are_allowed_to_named_origins_when_enabled(make_client: MakeClient) -> None:
    client = await make_client(cors_origins=("https://console.example",), cors_allow_credentials=True)
    allowed = await client.get("/", headers={"Origin": "https://console.example", "Cookie": "a=b"})
    assert allowed.headers["access-control-allow-credentials"] == "true"
    assert allowed.headers["access-control-allow-origin"] == "https://console.example"
    other = await client.get("/", headers={"Origin": "https://evil.example", "Cookie": "a=b"})
    assert "access-control-allow-origin" not in other.headers


def swap(folder: Path, text: str, version: int) -> None:
    """Replace the keys as the kubelet does: a new folder behind a symbolic link that is renamed into place."""
    new = folder / f"..{version}"
    new.mkdir()
    (new / "API_KEYS").write_text(text)
    link = folder / "..data_tmp"
    link.symlink_to(new.name)
    link.rename(folder / "..data")
    named = folder / "API_KEYS"
    if not named.is_symlink():
        named.symlink_to("..data/API_KEYS")


def test_keys_follow_their_file_and_a_missing_or_invalid_file_keeps_the_last_keys(
    start_service: StartService, tmp_path: Path
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    swap(folder, f"{ONE}\n{TWO}\n", 1)
    service = start_service(MODEL_PROVIDER="echo", SECRETS_DIR=str(folder), RATE_LIMIT_REQUESTS="0")

    def answers() -> list[int]:
        return [chat(service, headers).status_code for headers in (bearer(ONE), bearer(TWO), bearer(NEW), {})]

    assert answers() == [200, 200, 401, 401]
    swap(folder, f"{TWO} {NEW}", 2)
    assert answers() == [401, 200, 200, 401]
    for version, unusable in enumerate(("", " \n", "short", f"{ONE}, no", "\x00" * 40), start=3):
        swap(folder, unusable, version)
        assert answers() == [401, 200, 200, 401]
    (folder / "..data").unlink()
    assert answers() == [401, 200, 200, 401]
    swap(folder, ONE, 10)
    assert answers() == [200, 401, 401, 401]
    assert not any(key in service.log() for key in (ONE, TWO, NEW))
    assert "File of a setting could not be used, kept the previous value" in service.log()


def test_keys_added_after_the_start_are_required(start_service: StartService, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    service = start_service(MODEL_PROVIDER="echo", SECRETS_DIR=str(folder))
    assert chat(service, {}).status_code == 200
    assert "File of a setting" not in service.log()
    swap(folder, ONE, 1)
    assert chat(service, {}).status_code == 401
    assert chat(service, bearer(ONE)).status_code == 200


async def test_each_key_has_its_own_limit_and_wrong_keys_count_against_their_sender(make_client: MakeClient) -> None:
    client = await make_client(api_keys=f"{ONE} {TWO}", rate_limit_requests=3)

    async def statuses(headers: dict[str, str]) -> list[int]:
        return [(await client.get("/nowhere", headers=headers)).status_code for _ in range(4)]

    assert await statuses(bearer(ONE)) == [404, 404, 404, 429]
    assert await statuses(bearer("wrong")) == [401, 401, 401, 429]
    assert await statuses({}) == [429] * 4
    assert await statuses(bearer(TWO)) == [404, 404, 404, 429]


async def test_a_conversation_of_one_client_is_unknown_to_another(make_client: MakeClient) -> None:
    client = await make_client(api_keys=f"{ONE} {TWO}", model_provider="echo")

    async def say(key: str, conversation_id: str | None = None) -> str:
        body = {"message": "and then?", "conversation_id": conversation_id}
        answer = await client.post("/chat", json=body, headers=bearer(key))
        conversation: str = answer.json()["conversation_id"]
        return conversation

    conversation = await say(ONE)
    assert await say(TWO, conversation) != conversation
    assert await say(ONE, conversation) == conversation


@pytest.mark.parametrize(
    ("environment", "warned"), [("development", False), ("testing", False), ("staging", True), ("production", True)]
)
async def test_a_service_without_keys_warns_outside_development(
    make_client: MakeClient, capsys: pytest.CaptureFixture[str], environment: str, warned: bool
) -> None:
    open_to_all = await make_client(environment=environment)
    assert (await open_to_all.get("/nowhere")).status_code == 404
    assert capsys.readouterr().out.count("Client keys are off") == int(warned)
    closed = await make_client(environment=environment, api_keys=ONE)
    assert (await closed.get("/nowhere")).status_code == 401
    assert "Client keys are off" not in capsys.readouterr().out


async def test_the_openapi_document_marks_what_needs_a_key_while_keys_are_set(make_client: MakeClient) -> None:
    closed = (await (await make_client(api_keys=ONE)).get("/openapi.json")).json()
    assert set(closed["components"]["securitySchemes"]) == {"bearer", "header"}
    for path in ("/chat", "/chat/stream"):
        assert closed["paths"][path]["post"]["security"] == [{"bearer": []}, {"header": []}]
        assert "401" in closed["paths"][path]["post"]["responses"]
    for path in ("/", "/health", "/metrics"):
        assert "security" not in closed["paths"][path]["get"]
    opened = (await (await make_client()).get("/openapi.json")).json()
    assert "securitySchemes" not in opened["components"]
    assert "security" not in opened["paths"]["/chat"]["post"]


def test_a_named_key_is_in_the_log_and_the_metrics_by_its_name(start_service: StartService) -> None:
    service = start_service(MODEL_PROVIDER="echo", API_KEYS=f"acme/web: {ONE}\n{TWO}")
    assert [chat(service, bearer(key)).status_code for key in (ONE, TWO, ONE, NEW)] == [200, 200, 200, 401]
    assert chat(service, {}).status_code == 401
    lines = [json.loads(line) for line in service.log().splitlines()]
    clients = [line.get("client") for line in lines if line.get("route") == "/chat"]
    assert clients[0] == clients[2] == "acme/web"
    assert clients[1] == hashlib.sha256(TWO.encode()).hexdigest()[:16]
    # A request without a valid key has no client.
    assert service.metric('agent_client_requests_total{client="acme/web"}') == 2
    assert service.metric('agent_client_requests_total{client="unnamed"}') == 1
    assert service.metric('agent_auth_refused_total{reason="key"}') == 1
    assert service.metric('agent_auth_refused_total{reason="missing"}') == 1
    assert not any(key in service.log() for key in (ONE, TWO, NEW))


def test_a_client_keeps_its_conversations_while_its_key_is_rotated_named_and_renamed(
    start_service: StartService, tmp_path: Path
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    swap(folder, ONE, 1)
    service = start_service(MODEL_PROVIDER="echo", SECRETS_DIR=str(folder))
    started = chat(service, bearer(ONE)).json()["conversation_id"]
    unnamed = hashlib.sha256(ONE.encode()).hexdigest()[:16]

    def goes_on(key: str) -> bool:
        body = {"message": "again", "conversation_id": started}
        answer = httpx.post(f"{service.url}/chat", json=body, headers=bearer(key), timeout=30)
        return answer.status_code == 200 and bool(answer.json()["conversation_id"] == started)

    swap(folder, f"web={unnamed}: {ONE}", 2)
    assert goes_on(ONE)
    swap(folder, f"web={unnamed}: {ONE}, web={unnamed}: {TWO}", 3)
    assert goes_on(TWO)
    swap(folder, f"shop={unnamed}: {TWO}, other-client: {NEW}", 4)
    assert goes_on(TWO)
    assert not goes_on(NEW)
    assert chat(service, bearer(ONE)).status_code == 401
