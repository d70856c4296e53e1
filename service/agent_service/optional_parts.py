"""Parts that only some agents have. The libraries of each are imported when it is created."""

from typing import TYPE_CHECKING

import structlog

from agent_service.agent.claude.credentials import Credentials
from agent_service.agent.echo import EchoProvider
from agent_service.agent.provider import Provider, Waiting
from agent_service.agent.turns import Turns
from agent_service.config.settings import API_KEY_NAME, Settings
from agent_service.lifecycle import Lifecycle
from agent_service.limits.limits import Limits
from agent_service.network.addresses import model_api_address
from agent_service.telemetry.metrics import Metrics
from agent_service.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from agent_service.auth.tokens.tokens import Tokens
    from agent_service.gateway.server import Gateway
    from agent_service.tooling.toolbox import McpToolbox

_log = structlog.get_logger(__name__)

ANTHROPIC = "https://api.anthropic.com"


def make_model(settings: Settings, counted: Metrics) -> tuple[Provider | None, Credentials | None]:
    """Return the provider of the model, and its credentials; None for what the agent does not have."""
    if settings.model_provider == "echo":
        return EchoProvider(), None
    if settings.anthropic_api_key is None:
        return None, None
    key, file = settings.anthropic_api_key.get_secret_value(), settings.secret_file(API_KEY_NAME)
    credentials = Credentials(key, file, counted.credentials_refused.set)
    base_url, left_out = model_api_address(settings.anthropic_base_url or ANTHROPIC)
    if left_out:
        _log.warning("Base URL ended with a path of the API, removed the path", left_out=left_out)
    # The SDK takes three quarters of the start time, so only an agent that uses it imports it.
    from agent_service.agent.claude.provider import ClaudeProvider  # noqa: PLC0415

    provider = ClaudeProvider(
        model=settings.default_model,
        max_tokens=settings.max_tokens,
        max_retries=settings.model_max_retries,
        credentials=credentials,
        base_url=base_url,
    )
    return provider, credentials


def make_gateway(
    settings: Settings,
    lifecycle: Lifecycle,
    *,
    turns: Turns,
    credentials: Credentials | None,
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
        credentials=credentials,
        base_url=model_api_address(settings.anthropic_base_url or ANTHROPIC)[0],
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
