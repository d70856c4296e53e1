"""Creates the gateway from the settings."""

from typing import TYPE_CHECKING

from opentelemetry.trace import Tracer

from agent_service.agent.claude.endpoint import AnyEndpoint
from agent_service.agent.echo import EchoProvider
from agent_service.agent.fallbacks.places import Places
from agent_service.agent.provider import Waiting
from agent_service.agent.tools import Toolbox
from agent_service.agent.turns import Turns
from agent_service.bounds import Bounds, bounds
from agent_service.config.settings import Settings
from agent_service.gateway.accounts import Accounts
from agent_service.gateway.bodies import Bodies
from agent_service.gateway.calls import Calls, Terms
from agent_service.gateway.echo import Echo
from agent_service.gateway.fallbacks import Fallbacks
from agent_service.gateway.model_api import ModelApi
from agent_service.gateway.server import Gateway
from agent_service.gateway.upstream import Upstream
from agent_service.lifecycle import Lifecycle
from agent_service.limits.limits import Limits
from agent_service.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from agent_service.gateway.mcp.endpoint import Endpoint


def create_gateway(
    settings: Settings,
    lifecycle: Lifecycle,
    *,
    turns: Turns,
    endpoint: AnyEndpoint | None,
    places: Places | None = None,
    limits: Limits,
    metrics: Metrics,
    tracer: Tracer,
    waiting: Waiting,
    toolbox: Toolbox | None = None,
) -> Gateway:
    """Return the gateway, which does not listen yet.

    Args:
        settings: settings of the service.
        lifecycle: lifecycle of the process.
        turns: the turns in progress.
        endpoint: where the model API is, with its credentials; None if there are none.
        places: all providers of an agent with fallbacks.
        limits: limits of the agent.
        metrics: metrics of the process.
        tracer: creates the spans.
        waiting: returns a context that is entered while a call waits because it was throttled.
        toolbox: the agent's tools; None if it has none.
    """
    echoes = settings.model_provider == "echo"
    models = tuple(dict.fromkeys((settings.default_model, *settings.gateway_models, *(["echo"] if echoes else []))))
    model_api: ModelApi
    if echoes:
        model_api = Echo(EchoProvider())
    else:
        # No call lasts longer than the longest answer or task that it is part of.
        silence = max(settings.longest_answer_seconds, settings.task_timeout_seconds)
        model_api = _upstream(settings, endpoint, places, silence)
    accounts = Accounts(
        metrics,
        tracer,
        charge=limits.charge,
        provider=settings.provider_in_traces,
        models=(*models, *(each.model for each in settings.fallbacks if each.model and each.model not in models)),
    )
    terms = Terms(models, settings.gateway_max_tokens, settings.gateway_prompt_caching)
    bound = bounds(settings)
    calls = Calls(model_api, accounts, limits, metrics, terms, waiting=waiting)
    return Gateway(
        calls,
        turns,
        lifecycle,
        metrics,
        port=settings.gateway_port or 0,
        most=bound.in_flight,
        connections=bound.connections,
        tools=None if toolbox is None else _endpoint(toolbox, settings, turns, calls.bodies, bound),
    )


def _upstream(settings: Settings, endpoint: AnyEndpoint | None, places: Places | None, silence: float) -> ModelApi:
    def upstream(endpoint: AnyEndpoint | None) -> Upstream:
        return Upstream(endpoint, max_retries=settings.model_max_retries, silence_seconds=silence)

    if places is None:
        return upstream(endpoint)
    return Fallbacks(
        places,
        [upstream(place.endpoint) for place in places.all],
        model=settings.default_model,
        first_byte_seconds=settings.first_byte_seconds,
    )


def _endpoint(toolbox: Toolbox, settings: Settings, turns: Turns, bodies: Bodies, bound: Bounds) -> "Endpoint":
    # Not at the top of the file: the server side of MCP's SDK takes a second and 25 MB, so only agents with tools pay.
    from agent_service.gateway.mcp.endpoint import Endpoint  # noqa: PLC0415
    from agent_service.gateway.mcp.server import ToolServer  # noqa: PLC0415

    server = ToolServer(
        toolbox,
        turns,
        most_calls_of_turn=settings.max_tool_calls,
        call_seconds=max(settings.longest_answer_seconds, settings.task_timeout_seconds),
        most_listeners=bound.in_flight,
    )
    return Endpoint(server, bodies, most_listeners=bound.in_flight)
