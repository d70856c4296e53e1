"""Parts that only some agents have. The libraries of each are imported when it is created."""

from typing import TYPE_CHECKING

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
    from agent_service.auth.tokens.tokens import Tokens
    from agent_service.gateway.server import Gateway
    from agent_service.tooling.toolbox import McpToolbox


def make_model(settings: Settings, counted: Metrics) -> tuple[Provider | None, AnyEndpoint | None]:
    """Return the provider of the model, and where it is called; None for what the agent does not have."""
    if settings.model_provider == "echo":
        return EchoProvider(), None
    if not settings.has_credentials:
        return None, None
    # The SDK takes three quarters of the start time, so only an agent that uses it imports it.
    from agent_service.agent.claude.provider import ClaudeProvider  # noqa: PLC0415
    from agent_service.agent.endpoints import Reports, make_endpoint  # noqa: PLC0415

    endpoint = make_endpoint(settings, Reports(counted.credentials_refused.set, counted.model_credential.note))
    provider = ClaudeProvider(
        endpoint,
        model=settings.default_model,
        max_tokens=settings.max_tokens,
        max_retries=settings.model_max_retries,
    )
    return provider, endpoint


def make_gateway(
    settings: Settings,
    lifecycle: Lifecycle,
    *,
    turns: Turns,
    endpoint: AnyEndpoint | None,
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
