"""What answers the turns of an agent: the runtime, or the model, with tools or without."""

from collections.abc import Callable

from agent_service.agent.account import Account, ModelAccount, RuntimeAccount
from agent_service.agent.echo import EchoProvider
from agent_service.agent.loop import ToolLoop
from agent_service.agent.messages import Usage
from agent_service.agent.provider import Provider
from agent_service.agent.step import takes_tools
from agent_service.agent.tools import NoTools, Toolbox
from agent_service.agent.tracing import TurnSpans
from agent_service.agent.turns import Turns
from agent_service.config.settings import Settings
from agent_service.limits.limits import Limits
from agent_service.runtime.protocol import RuntimeProtocol
from agent_service.runtime.provider import RuntimeProvider
from agent_service.telemetry.metrics import Metrics
from agent_service.telemetry.tracing import Tracing


def make_answering(
    settings: Settings,
    *,
    model: Provider | None,
    toolbox: Toolbox | None,
    runtime: RuntimeProtocol | None,
    turns: Turns,
    metrics: Metrics,
    limits: Limits,
    tracing: Tracing,
) -> tuple[Provider, Account, TurnSpans]:
    """Return the provider that answers turns, and how its turns are counted and traced."""
    tracer = tracing.tracer()
    if runtime is not None:
        protocol = settings.runtime_protocol
        provider: Provider = RuntimeProvider(runtime, turns, model=settings.model, toolbox=toolbox)
        account = RuntimeAccount(metrics, protocol=protocol, counted=limits.history.count)
        return provider, account, TurnSpans.of_runtime(tracer, protocol)
    provider = model or EchoProvider()
    spans = TurnSpans.of_model(
        tracer, provider=settings.provider_in_traces, model=provider.model, max_tokens=settings.max_tokens
    )
    charge: Callable[[Usage, str | None], None] = limits.charge
    if toolbox is None and settings.api_client_tools:
        # The loop also hands the calls of clients' tools over to them.
        toolbox = NoTools()
    if toolbox is not None and takes_tools(provider):
        # The loop charges each call of the model, so that the budget can end a turn.
        charge = _charge_nothing
        provider = ToolLoop(
            provider,
            toolbox,
            max_steps=settings.max_steps,
            max_tool_calls=settings.max_tool_calls,
            charge=limits.charge,
            budget_wait=limits.budget_wait,
        )
    models = dict.fromkeys([provider.model, *(each.model or provider.model for each in settings.fallbacks)])
    of_model = ModelAccount(metrics, models=tuple(models), charge=charge, counted=limits.history.count)
    return provider, of_model, spans


def _charge_nothing(_: Usage, __: str | None) -> None:
    """Do nothing: the usage is charged already."""
