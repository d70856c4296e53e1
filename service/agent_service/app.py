"""The factory: from settings to the ASGI app."""

import contextlib
import math
from collections.abc import AsyncIterator

import structlog
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from agent_service import __version__
from agent_service.agent.claude import ClaudeProvider
from agent_service.agent.credentials import Credentials
from agent_service.agent.dialogue import Dialogue
from agent_service.agent.echo import EchoProvider
from agent_service.agent.provider import Provider
from agent_service.agent.span import TurnSpans
from agent_service.agent.turn import Agent
from agent_service.clients import Clients
from agent_service.health import CHECK_SECONDS, QUIET_CHECK_SECONDS, Check, running
from agent_service.lifecycle import Lifecycle
from agent_service.metrics import Metrics
from agent_service.middleware.body_limit import BodyLimit
from agent_service.middleware.identify import Identify
from agent_service.middleware.in_flight import InFlight
from agent_service.middleware.observe import Observe
from agent_service.middleware.rate_limit import HEADERS, RateLimit
from agent_service.middleware.request_id import HEADER, RequestId
from agent_service.middleware.require_key import RequireKey, describe_keys
from agent_service.middleware.unhandled import Unhandled
from agent_service.routes import chat, errors, health, metrics, page
from agent_service.routes.parts import Parts
from agent_service.settings import API_KEY_NAME, CLIENT_KEYS_NAME, Settings
from agent_service.state.conversations import Conversations
from agent_service.state.limits import Limits
from agent_service.state.redis import Redis
from agent_service.tracing import start as start_tracing

_log = structlog.get_logger(__name__)


def create_app(settings: Settings, lifecycle: Lifecycle | None = None) -> FastAPI:
    """Make the app.

    Args:
        settings: what it is told.
        lifecycle: shared with the server that runs it, which begins the draining; a new one if absent.
    """
    parts = _make_parts(settings, lifecycle or Lifecycle())
    documented = not settings.is_production
    app = FastAPI(
        title="Portside agent API",
        version=__version__,
        description="Talk to an AI agent. Errors are JSON objects with a `detail`.",
        docs_url="/docs" if documented else None,
        redoc_url=None,
        openapi_url="/openapi.json" if documented else None,
        lifespan=_lifespan,
        telemetry=parts.tracing.for_fastapi(),
    )
    app.state.parts = parts
    for module in (page, chat, health):
        app.include_router(module.router)
    if settings.metrics_port is None:
        app.include_router(metrics.router)
    errors.install(app)
    if documented and parts.clients.need_keys:
        describe_keys(app.openapi())
    _add_middleware(app, parts)
    return app


def _add_middleware(app: FastAPI, parts: Parts) -> None:
    """Put the middleware around the app: the last one added is the outermost."""
    settings = parts.settings
    app.add_middleware(BodyLimit, largest_bytes=settings.max_body_bytes, seconds=settings.request_timeout_seconds)
    app.add_middleware(RequireKey, clients=parts.clients)
    app.add_middleware(RateLimit, limits=parts.limits, metrics=parts.metrics)
    app.add_middleware(Identify, clients=parts.clients, trusted_proxies=settings.trusted_proxies)
    most = math.ceil(settings.max_in_flight / settings.api_workers)
    app.add_middleware(InFlight, lifecycle=parts.lifecycle, metrics=parts.metrics, most=most)
    app.add_middleware(Unhandled)
    if settings.cors_origins:
        # The settings refuse `*` with credentials, of which Starlette would make "any origin, with cookies".
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Content-Type", "Authorization", "X-API-Key", HEADER],
            allow_credentials=settings.cors_allow_credentials,
            expose_headers=[HEADER, "Retry-After", *HEADERS],
        )
    app.add_middleware(Observe, metrics=parts.metrics)
    app.add_middleware(RequestId)


def _make_parts(settings: Settings, lifecycle: Lifecycle) -> Parts:
    provider, credentials = _make_provider(settings)
    tracing = start_tracing(settings)
    if settings.redis_address is None:
        raise ValueError("The app needs the address of a Redis server; `serve` starts one when none is configured.")
    redis = Redis(settings.redis_address, prefix=settings.state_prefix)
    counted = Metrics(version=__version__, provider=settings.model_provider, model=provider.model)
    limits = Limits(
        redis, requests_per_minute=settings.rate_limit_requests, tokens_per_minute=settings.tokens_per_minute
    )
    agent = Agent(
        provider,
        counted,
        system_prompt=settings.system_prompt,
        timeout_seconds=settings.request_timeout_seconds,
        charge=limits.charge,
        spans=TurnSpans(
            tracing.tracer(),
            provider=settings.model_provider,
            model=provider.model,
            max_tokens=settings.max_tokens,
        ),
        log_content=settings.log_content,
    )
    conversations = Conversations(
        redis,
        max_messages=settings.conversation_max_messages,
        max_tokens=settings.conversation_max_tokens,
        ttl_seconds=settings.conversation_ttl_seconds,
    )
    return Parts(
        settings=settings,
        lifecycle=lifecycle,
        metrics=counted,
        provider=provider,
        credentials=credentials,
        agent=agent,
        redis=redis,
        clients=Clients(settings),
        limits=limits,
        dialogue=Dialogue(agent, conversations),
        checks=_make_checks(settings, provider, redis),
        tracing=tracing,
    )


def _make_checks(settings: Settings, provider: Provider, redis: Redis) -> dict[str, Check]:
    async def model_api() -> str:
        await provider.check()
        return f"The provider {settings.model_provider} answers for model {provider.model}."

    async def state() -> str:
        # Written, because a server that is full or only a replica answers well to everything else.
        await redis.call("SET", redis.key("health"), 1, "EX", 60)
        return "The store of the state takes writes."

    return {
        "model_api": Check(model_api, every_seconds=CHECK_SECONDS, quiet_seconds=QUIET_CHECK_SECONDS),
        "redis": Check(state, every_seconds=CHECK_SECONDS),
    }


def _make_provider(settings: Settings) -> tuple[Provider, Credentials | None]:
    if settings.model_provider == "echo" or settings.anthropic_api_key is None:
        return EchoProvider(), None
    credentials = Credentials(settings.anthropic_api_key.get_secret_value(), settings.secret_file(API_KEY_NAME))
    provider = ClaudeProvider(
        model=settings.default_model,
        max_tokens=settings.max_tokens,
        max_retries=settings.model_max_retries,
        credentials=credentials,
        base_url=settings.anthropic_base_url,
    )
    return provider, credentials


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    _warn_of_an_open_door(parts)
    try:
        # What looks at the parts ends before they do: a look at a closed client would open it again.
        async with running(parts.checks):
            parts.lifecycle.started = True
            yield
    finally:
        await parts.provider.close()
        await parts.limits.close()
        await parts.redis.close()
        await parts.tracing.close()


def _warn_of_an_open_door(parts: Parts) -> None:
    if not parts.clients.need_keys and parts.settings.environment not in {"development", "testing"}:
        _log.warning("Client keys are off: whoever reaches this service can use it", action=f"set {CLIENT_KEYS_NAME}")
