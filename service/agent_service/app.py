"""The factory that creates the ASGI app from the settings."""

import contextlib
import socket
from collections.abc import AsyncIterator

import structlog
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from agent_service import __version__
from agent_service.bounds import bounds, wanted_in_flight
from agent_service.compat import models, openai
from agent_service.compat.a2a import routes as a2a
from agent_service.compat.a2a.card import RPC_PATH
from agent_service.compat.anthropic import routes as anthropic
from agent_service.compat.error_forms import FORMS
from agent_service.components import Components, make_components
from agent_service.config.settings import CLIENT_KEYS_NAME, Settings
from agent_service.health.checks import running
from agent_service.health.publish import publishing
from agent_service.lifecycle import Lifecycle
from agent_service.middleware.alias import Alias
from agent_service.middleware.allowed_hosts import AllowedHosts
from agent_service.middleware.body_limit import BodyLimit
from agent_service.middleware.direct_send import DirectSend
from agent_service.middleware.error_form import ErrorForm
from agent_service.middleware.identify import Identify
from agent_service.middleware.in_flight import InFlight
from agent_service.middleware.observe import Observe
from agent_service.middleware.rate_limit import HEADERS, RateLimit
from agent_service.middleware.request_id import HEADER, RequestId
from agent_service.middleware.require_key import RequireKey, describe_keys
from agent_service.middleware.unhandled import Unhandled
from agent_service.middleware.upgrade import Upgrade
from agent_service.paths import AGENT, Paths, beside_runtime
from agent_service.routes import (
    approvals,
    chat,
    docs,
    errors,
    health,
    metrics,
    page,
    protected_resource,
    task_events,
    tasks,
    usage,
)

_log = structlog.get_logger(__name__)


_ALLOWED_HEADERS = ["Content-Type", "Authorization", "X-API-Key", "Idempotency-Key", "Last-Event-ID", HEADER]
# Those of MCP clients in a browser (MCP, "Streamable HTTP").
_MCP_SESSION = "Mcp-Session-Id"
_MCP_HEADERS = ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", _MCP_SESSION]


def create_app(
    settings: Settings, lifecycle: Lifecycle | None = None, *, gateway_listener: socket.socket | None = None
) -> FastAPI:
    """Return the app.

    Args:
        settings: settings of the app.
        lifecycle: lifecycle shared with the server that runs the app and starts the draining; a new one if None.
        gateway_listener: bound socket of the gateway; if None, the gateway binds its port itself.
    """
    components = make_components(settings, lifecycle or Lifecycle())
    documented = not settings.is_production
    app = FastAPI(
        title="Portside agent API",
        version=__version__,
        description="Talk to an AI agent. Errors are JSON objects with a `detail`.",
        # FastAPI's pages load their code from a CDN; routes/docs.py has our own page.
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if documented else None,
        lifespan=_lifespan,
        # A redirect would use the caller's Host header, and `http` where a proxy terminates TLS.
        redirect_slashes=False,
        telemetry=components.tracing.for_fastapi(),
    )
    app.state.components = components
    app.state.gateway_listener = gateway_listener
    paths = AGENT
    if settings.proxies:
        paths = beside_runtime(shows_metrics=settings.shows_metrics)
        _pass_on(app, paths)
    for module in (health,) if settings.proxies else (page, chat, approvals, tasks, task_events, usage, health):
        app.include_router(module.router)
    if paths.has_protocols:
        _include_protocols(app, settings)
        if components.tokens is not None:
            app.include_router(protected_resource.router)
    if documented:
        app.include_router(docs.router)
    if settings.shows_metrics:
        app.include_router(metrics.router)
    app.state.mcp = None
    if settings.api_mcp and not settings.proxies:
        _offer_as_tool(app)
    errors.install(app)
    if documented and components.clients.need_keys:
        describe_keys(app.openapi(), paths)
    _add_middleware(app, components, paths)
    return app


def _include_protocols(app: FastAPI, settings: Settings) -> None:
    """Answer in the protocols of other clients."""
    if settings.api_openai or settings.api_anthropic:
        app.include_router(models.router)
    if settings.api_openai:
        app.include_router(openai.router)
    if settings.api_anthropic:
        app.include_router(anthropic.router)
    if settings.api_a2a:
        app.include_router(a2a.router)


def _pass_on(app: FastAPI, paths: Paths) -> None:
    """Pass all requests without a route to the runtime."""
    # Only an agent that needs them loads the HTTP client and what belongs to it.
    from agent_service.routes import proxy  # noqa: PLC0415

    app.include_router(proxy.router)
    app.state.proxy = app.router.default = proxy.Proxy(app.state.components, paths)


def _offer_as_tool(app: FastAPI) -> None:
    """Answer MCP clients."""
    # Only an agent that is offered as a tool loads the SDK.
    from agent_service.compat.mcp.endpoint import Endpoint  # noqa: PLC0415

    app.state.mcp = Endpoint(app.state.components)
    app.router.routes.append(app.state.mcp.route)


def _add_middleware(app: FastAPI, components: Components, paths: Paths) -> None:
    """Add the middleware to the app. The last one added is the outermost."""
    settings = components.settings
    app.add_middleware(
        BodyLimit,
        largest_bytes=settings.max_body_bytes,
        largest_of_protocols=settings.api_max_body_bytes,
        seconds=settings.request_timeout_seconds,
        paths=paths,
    )
    app.add_middleware(RequireKey, clients=components.clients, metrics=components.metrics.callers, paths=paths)
    app.add_middleware(RateLimit, limits=components.limits, metrics=components.metrics, paths=paths)
    bound = bounds(settings)
    app.add_middleware(
        InFlight,
        lifecycle=components.lifecycle,
        metrics=components.metrics,
        clients=components.clients,
        most=bound.in_flight,
        most_of_client=bound.in_flight_per_client,
        paths=paths,
    )
    app.add_middleware(Identify, clients=components.clients, trusted_proxies=settings.trusted_proxies)
    app.add_middleware(Unhandled)
    if settings.cors_origins:
        # The settings refuse `*` with credentials, which Starlette would turn into "any origin, with cookies".
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"] if settings.proxies else ["GET", "POST", "DELETE"],
            allow_headers=["*"]
            if settings.proxies
            else [*_ALLOWED_HEADERS, *(_MCP_HEADERS if settings.api_mcp else ())],
            allow_credentials=settings.cors_allow_credentials,
            expose_headers=[
                HEADER,
                "Location",
                "Retry-After",
                "WWW-Authenticate",
                *HEADERS,
                *([_MCP_SESSION] if settings.api_mcp else ()),
            ],
        )
    app.add_middleware(AllowedHosts, allowed=settings.allowed_hosts, clients=components.clients)
    app.add_middleware(ErrorForm, paths=paths, forms=FORMS)
    app.add_middleware(Observe, metrics=components.metrics)
    app.add_middleware(RequestId)
    if settings.proxies:
        app.add_middleware(Upgrade)
    if settings.api_a2a and paths.has_protocols:
        # Callers that do not read the agent card, such as kagent, post to the agent's address itself.
        app.add_middleware(Alias, method="POST", path="/", target=RPC_PATH)
    app.add_middleware(DirectSend)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    components: Components = app.state.components
    _warn_of_an_open_door(components)
    settings = components.settings
    _warn_of_lowered_bounds(settings)
    works = contextlib.nullcontext() if settings.proxies else components.worker.running(claims=settings.runs_tasks)
    passes = contextlib.aclosing(app.state.proxy) if settings.proxies else contextlib.nullcontext()
    offers = contextlib.nullcontext() if app.state.mcp is None else app.state.mcp.running()
    checks = components.checks
    listener = app.state.gateway_listener
    async with (
        components.open(listener),
        passes,
        offers,
        running(checks),
        publishing(checks, components.metrics),
        works,
    ):
        components.lifecycle.started = True
        yield


def _warn_of_an_open_door(components: Components) -> None:
    if any(network.endswith("/0") for network in components.settings.trusted_proxies):
        _log.warning(
            "Every address is a trusted proxy: a client that reaches this service directly can claim any address",
            action="list only the proxies in TRUSTED_PROXIES, or block all other access to the service",
        )
    if not components.clients.need_keys and components.settings.environment not in {"development", "testing"}:
        _log.warning(
            "Client keys are off: any client that reaches this service can use it", action=f"set {CLIENT_KEYS_NAME}"
        )


def _warn_of_lowered_bounds(settings: Settings) -> None:
    bound = bounds(settings)
    if bound.in_flight < wanted_in_flight(settings):
        _log.warning(
            "MAX_IN_FLIGHT was lowered: there are too few connections for it",
            in_flight=bound.in_flight,
            connections=bound.connections,
            action="raise MAX_CONNECTIONS, or the hard limit of open files (ulimit -Hn)",
        )
