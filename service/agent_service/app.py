"""The factory: from settings to the ASGI app."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from agent_service import __version__
from agent_service.agent.check import ModelCheck
from agent_service.agent.claude import ClaudeProvider, recheck_refused_credentials
from agent_service.agent.credentials import Credentials
from agent_service.agent.dialogue import Dialogue
from agent_service.agent.echo import EchoProvider
from agent_service.agent.provider import Provider
from agent_service.agent.turn import Agent
from agent_service.lifecycle import Lifecycle
from agent_service.metrics import Metrics
from agent_service.middleware.body_limit import BodyLimit
from agent_service.middleware.drain import Drain
from agent_service.middleware.observe import Observe
from agent_service.middleware.request_id import HEADER, RequestId
from agent_service.middleware.unhandled import Unhandled
from agent_service.routes import chat, errors, health, metrics, page
from agent_service.routes.parts import Parts
from agent_service.settings import API_KEY_NAME, Settings
from agent_service.state.conversations import Conversations
from agent_service.state.redis import Redis

# 10,000 characters of message and 5,000 of system prompt, each up to 12 bytes as a JSON escape, and room to spare.
_LARGEST_BODY_BYTES = 256 * 1024

# Often enough that a key that was set right is noticed within a probe or three, rare enough to be no load.
_RECHECK_SECONDS = 30.0


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
    )
    app.state.parts = parts
    for module in (page, chat, health, metrics):
        app.include_router(module.router)
    errors.install(app)
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, largest_bytes=_LARGEST_BODY_BYTES)
    app.add_middleware(Drain, lifecycle=parts.lifecycle)
    app.add_middleware(Unhandled)
    if settings.cors_origins:
        # Never with credentials: there are no cookies here, and Starlette would let `*` mean any origin with them.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Content-Type", "Authorization", "X-API-Key", HEADER],
            expose_headers=[HEADER, "Retry-After"],
        )
    app.add_middleware(Observe, metrics=parts.metrics)
    app.add_middleware(RequestId)
    return app


def _make_parts(settings: Settings, lifecycle: Lifecycle) -> Parts:
    provider, credentials = _make_provider(settings)
    if settings.redis_address is None:
        raise ValueError("The app needs the address of a Redis server; `serve` starts one when none is configured.")
    redis = Redis(settings.redis_address, prefix=settings.state_prefix)
    counted = Metrics(version=__version__, provider=settings.model_provider, model=provider.model)
    agent = Agent(
        provider,
        counted,
        system_prompt=settings.system_prompt,
        timeout_seconds=settings.request_timeout_seconds,
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
        dialogue=Dialogue(agent, conversations),
        model_check=ModelCheck(provider),
    )


def _make_provider(settings: Settings) -> tuple[Provider, Credentials | None]:
    if settings.model_provider == "echo" or settings.anthropic_api_key is None:
        return EchoProvider(), None
    credentials = Credentials(settings.anthropic_api_key.get_secret_value(), settings.secret_file(API_KEY_NAME))
    provider = ClaudeProvider(
        model=settings.default_model,
        max_tokens=settings.max_tokens,
        timeout_seconds=settings.request_timeout_seconds,
        credentials=credentials,
        base_url=settings.anthropic_base_url,
    )
    return provider, credentials


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    recheck = None
    if isinstance(parts.provider, ClaudeProvider) and parts.credentials is not None:
        recheck = asyncio.create_task(
            recheck_refused_credentials(parts.provider, parts.credentials, every_seconds=_RECHECK_SECONDS)
        )
    parts.lifecycle.started = True
    try:
        yield
    finally:
        if recheck is not None:
            recheck.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await recheck
        await parts.provider.close()
        await parts.redis.close()
