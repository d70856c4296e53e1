"""Fixtures: the service in front of the stand-in model API, as a process or as an app in this process."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from agent_service.app import create_app
from agent_service.components import Components
from agent_service.config.loading import load
from agent_service.config.providers import API_KEY_NAME
from service.anthropic_agent import running_desk
from stand_in import StandIn, running_stand_in
from support.agent import KEY, SETTING_NAMES, MakeClient, Service, StartService, running_service
from support.browser import running_browser
from support.collector import Collector
from support.http_runtime import CLIENT_KEY, PROXY, HttpRuntime, running_http_runtime
from support.mcp_servers import McpServer, StartServer, sdk_server
from support.redis_server import RedisServer, running_redis
from support.runtime_gateway import OTHER_MODEL, PLACEHOLDER, SDK_SECONDS, MakeGateway, RuntimeGateway


@pytest.fixture(autouse=True)
def _settings_of_the_test_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Isolate the tests from the developer's environment and `.env` file."""
    for name in SETTING_NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[McpServer]:
    """Run an MCP server on the official SDK for the tests of a file."""
    started = sdk_server(tmp_path_factory.mktemp("tools")).start()
    yield started
    started.kill()


@pytest.fixture
def server(server_process: McpServer) -> McpServer:
    """Return the server of the file, which has recorded no calls yet."""
    (server_process.folder / "calls.jsonl").unlink(missing_ok=True)
    return server_process


@pytest.fixture
def start_mcp(tmp_path: Path) -> Iterator[StartServer]:
    """Start an MCP server in a folder of its own: on the official SDK unless another kind is given."""
    servers: list[McpServer] = []

    def start(make: StartServer = sdk_server, **options: object) -> McpServer:
        folder = tmp_path / f"server-{len(servers)}"
        folder.mkdir()
        servers.append(make(folder, **options))
        return servers[-1].start()

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def stand_in_process() -> Iterator[StandIn]:
    with running_stand_in() as stand_in:
        yield stand_in


@pytest.fixture
def stand_in(stand_in_process: StandIn) -> StandIn:
    """Return the stand-in model API after a reset."""
    stand_in_process.reset()
    return stand_in_process


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(redis_process: RedisServer) -> RedisServer:
    """Return an empty Redis, shared by many tests. One to stop or freeze is `own_redis`."""
    redis_process.command("FLUSHALL")
    return redis_process


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Start a Redis for one module, which its tests may stop or freeze."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def start_service(tmp_path: Path, redis_server: RedisServer) -> Iterator[StartService]:
    """Start a service for this test only; keyword arguments are its environment.

    Its state is in the tests' Redis; with REDIS_URL="" it starts its own Valkey.
    """
    defaults = {"REDIS_URL": redis_server.url, "STATE_DIR": str(tmp_path / "state")}
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running_service(tmp_path, **{**defaults, **settings}))


@pytest.fixture(scope="session")
def shared_settings(stand_in_process: StandIn, redis_process: RedisServer) -> dict[str, str]:
    return {
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": stand_in_process.url,
        "REDIS_URL": redis_process.url,
        "RATE_LIMIT_REQUESTS": "0",
        "SYSTEM_PROMPT": "Be brief.",
        "CORS_ORIGINS": "https://console.example",
        "LOG_LEVEL": "DEBUG",
        "ANTHROPIC_LOG": "debug",
    }


@pytest.fixture(scope="session")
def shared_service(shared_settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("service"), **shared_settings) as running:
        yield running


@pytest.fixture(scope="session")
def heartbeat_service(shared_settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service with heartbeats every 0.2 s: a slower answer has already started, so its errors are events."""
    folder = tmp_path_factory.mktemp("heartbeat")
    with running_service(folder, **shared_settings, STREAM_HEARTBEAT_SECONDS="0.2") as running:
        yield running


@pytest.fixture
def service(shared_service: Service, stand_in: StandIn) -> Service:
    """Return a service in front of the stand-in, shared by many tests."""
    assert stand_in.requests() == []
    return shared_service


@pytest.fixture(scope="session")
def shared_http_runtime() -> Iterator[HttpRuntime]:
    with running_http_runtime() as runtime:
        yield runtime


@pytest.fixture
def http_runtime(shared_http_runtime: HttpRuntime) -> HttpRuntime:
    """Return the runtime with an HTTP application of its own, after a reset."""
    shared_http_runtime.reset()
    return shared_http_runtime


@pytest.fixture(scope="session")
def shared_proxy(
    shared_http_runtime: HttpRuntime, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Run a service with a client key in front of that runtime."""
    settings = {**PROXY, "RUNTIME_URL": shared_http_runtime.url, "REDIS_URL": redis_process.url}
    folder = tmp_path_factory.mktemp("proxy")
    with running_service(folder, **settings, API_KEYS=CLIENT_KEY, MAX_BODY_BYTES="100000") as running:
        yield running


@pytest.fixture
async def make_client(stand_in: StandIn, redis_server: RedisServer) -> AsyncIterator[MakeClient]:
    """Yield a factory that starts the app in this process, in front of the stand-in; arguments are settings by name."""
    async with AsyncExitStack() as stack:

        async def make(**given: object) -> httpx.AsyncClient:
            defaults: dict[str, object] = {
                API_KEY_NAME.lower(): KEY,
                "anthropic_base_url": stand_in.url,
                "redis_url": redis_server.url,
                "rate_limit_requests": 0,
            }
            app = create_app(load(**{**defaults, **given}))
            await stack.enter_async_context(app.router.lifespan_context(app))
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            client = httpx.AsyncClient(transport=transport, base_url="http://agent", timeout=30)
            return await stack.enter_async_context(client)

        yield make


@pytest.fixture
async def make_gateway(stand_in: StandIn, redis_server: RedisServer) -> AsyncIterator[MakeGateway]:
    """Yield a factory that starts the app with a gateway in this process; arguments are settings by name.

    The SDKs do not retry, so that each call is one request.
    """
    async with AsyncExitStack() as stack:

        async def make(**given: object) -> RuntimeGateway:
            defaults: dict[str, object] = {
                API_KEY_NAME.lower(): KEY,
                "anthropic_base_url": stand_in.url,
                "redis_url": redis_server.url,
                "gateway_port": 0,
                "gateway_models": (OTHER_MODEL,),
            }
            app = create_app(load(**{**defaults, **given}))
            await stack.enter_async_context(app.router.lifespan_context(app))
            components: Components = app.state.components
            assert components.gateway is not None
            url = f"http://127.0.0.1:{components.gateway.port}"
            return RuntimeGateway(
                components,
                await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=SDK_SECONDS)),
                await stack.enter_async_context(
                    anthropic.AsyncAnthropic(base_url=url, api_key=PLACEHOLDER, max_retries=0, timeout=SDK_SECONDS)
                ),
                await stack.enter_async_context(
                    openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=PLACEHOLDER, max_retries=0, timeout=SDK_SECONDS)
                ),
            )

        yield make


@pytest.fixture
async def gateway(make_gateway: MakeGateway) -> RuntimeGateway:
    return await make_gateway()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """The browser of a file whose tests run on one event loop."""
    async with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def desk_settings() -> dict[str, str]:
    """The settings of the agent `desk`; a file that needs some has a fixture of this name."""
    return {}


@pytest.fixture(scope="module")
def desk_process(
    desk_settings: dict[str, str],
    server_process: McpServer,
    stand_in_process: StandIn,
    redis_process: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """Run the agent `desk` for the tests of a file."""
    folder = tmp_path_factory.mktemp("desk")
    with running_desk(folder, stand_in_process, redis_process, server_process, **desk_settings) as service:
        yield service


@pytest.fixture
def desk(desk_process: Service, server: McpServer, stand_in: StandIn, redis_server: RedisServer) -> Service:
    """Return an agent with tools that speaks the Messages API, shared by the tests of a file."""
    return desk_process
