"""Parts that only some agents have. The libraries of each are imported when it is created."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent_service.agent.claude.credentials import AllCredentials, Refusable
from agent_service.agent.claude.endpoint import AnyEndpoint
from agent_service.agent.echo import EchoProvider
from agent_service.agent.provider import Provider, Waiting
from agent_service.agent.turns import Turns
from agent_service.config.settings import Settings
from agent_service.lifecycle import Lifecycle
from agent_service.limits.limits import Limits
from agent_service.telemetry.metrics import Metrics
from agent_service.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from agent_service.agent.claude.provider import ClaudeProvider
    from agent_service.agent.fallbacks.places import Places
    from agent_service.auth.tokens.tokens import Tokens
    from agent_service.gateway.server import Gateway
    from agent_service.tooling.toolbox import McpToolbox


@dataclass(frozen=True, slots=True)
class Model:
    """The provider of the model, where it is called, and its credentials; None for what the agent does not have.

    `places` are all providers of an agent with fallbacks, and `endpoint` is then that of its own.
    """

    provider: Provider | None = None
    endpoint: AnyEndpoint | None = None
    credentials: Refusable | None = None
    places: "Places | None" = None


def make_model(settings: Settings, counted: Metrics) -> Model:
    """Return the model of the agent."""
    if settings.model_provider == "echo":
        return Model(EchoProvider())
    if not settings.has_credentials:
        return Model()
    # The SDK takes three quarters of the start time, so only an agent that uses it imports it.
    from agent_service.agent.endpoints import Reports, make_endpoint  # noqa: PLC0415

    if settings.fallbacks:
        return _with_fallbacks(settings, counted)
    endpoint = make_endpoint(settings, Reports(counted.credentials_refused.set, counted.model_credential.note))
    return Model(_provider(settings, endpoint), endpoint, endpoint.credentials)


def _with_fallbacks(settings: Settings, counted: Metrics) -> Model:
    from agent_service.agent.endpoints import Reports, make_endpoint  # noqa: PLC0415
    from agent_service.agent.fallbacks.places import Place, Places  # noqa: PLC0415
    from agent_service.agent.fallbacks.provider import FallbackProvider  # noqa: PLC0415

    credentials = AllCredentials(counted.credentials_refused.set)
    own = (settings.model_provider, settings)
    places, providers = [], []
    for name, each in (own, *((fallback.name, settings.of_fallback(fallback)) for fallback in settings.fallbacks)):
        endpoint = make_endpoint(each, Reports(credentials.report_of(name), counted.model_credential.note))
        credentials.add(endpoint.credentials)
        places.append(Place(name, each.provider_in_traces, each.default_model, endpoint))
        providers.append(_provider(each, endpoint))
    found = Places(places, counted.fallbacks)
    provider = FallbackProvider(found, providers, first_byte_seconds=settings.first_byte_seconds)
    return Model(provider, places[0].endpoint, credentials, found)


def _provider(settings: Settings, endpoint: AnyEndpoint) -> "ClaudeProvider":
    from agent_service.agent.claude.provider import ClaudeProvider  # noqa: PLC0415

    return ClaudeProvider(
        endpoint,
        model=settings.default_model,
        max_tokens=settings.max_tokens,
        max_retries=settings.model_max_retries,
    )


def make_gateway(
    settings: Settings,
    lifecycle: Lifecycle,
    *,
    turns: Turns,
    endpoint: AnyEndpoint | None,
    places: "Places | None",
    limits: Limits,
    metrics: Metrics,
    tracing: Tracing,
    waiting: Waiting,
    toolbox: "McpToolbox | None",
) -> "Gateway":
    """Return the gateway of a runtime."""
    # Not at the top of the file: an agent without a runtime does not spend the memory.
    from agent_service.gateway.create import create_gateway  # noqa: PLC0415

    return create_gateway(
        settings,
        lifecycle,
        turns=turns,
        endpoint=endpoint,
        places=places,
        limits=limits,
        metrics=metrics,
        tracer=tracing.tracer(),
        waiting=waiting,
        toolbox=toolbox,
    )


def make_toolbox(settings: Settings, metrics: Metrics, tracing: Tracing) -> "McpToolbox | None":
    """Return the tools of the agent; None if it has none."""
    if settings.tools_file is None:
        return None
    # Not at the top of the file: an agent without tools does not spend the memory.
    from agent_service.tooling.toolbox import McpToolbox  # noqa: PLC0415

    return McpToolbox(
        settings.tools_file,
        settings.tool_secrets_dir,
        metrics=metrics,
        tracer=tracing.tracer(),
        logs_content=settings.log_content,
    )


def make_tokens(settings: Settings, metrics: Metrics) -> "Tokens | None":
    """Return the tokens of clients; None without issuers."""
    if settings.jwt_file is None:
        return None
    # Not at the top of the file: an agent without issuers does not spend the memory.
    from agent_service.auth.tokens.tokens import Tokens  # noqa: PLC0415

    return Tokens(settings.jwt_file, metrics.callers)
