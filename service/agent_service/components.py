"""The components of a process, created from its settings. The API and the worker both use them."""

import math
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent_service import __version__
from agent_service.agent.claude.credentials import Refusable
from agent_service.agent.messages import Usage
from agent_service.agent.provider import Provider, Waiting
from agent_service.agent.turn import Agent
from agent_service.agent.turns import Turns
from agent_service.answering import make_answering
from agent_service.auth.clients import Clients
from agent_service.bounds import bounds
from agent_service.chat.approvals import Approvals
from agent_service.chat.conversations import Conversations
from agent_service.chat.dialogue import Dialogue
from agent_service.config.secret_file import SecretFile
from agent_service.config.settings import SYSTEM_PROMPT_NAME, Settings
from agent_service.config.values import valid_system_prompt
from agent_service.health.checks import Check
from agent_service.health.components import make_checks
from agent_service.lifecycle import Lifecycle
from agent_service.limits.budget import Budget
from agent_service.limits.history import History
from agent_service.limits.limits import Limits
from agent_service.limits.rates import Rates
from agent_service.limits.shares import Shares
from agent_service.limits.terms import Terms
from agent_service.optional_parts import make_gateway, make_model, make_tokens, make_toolbox
from agent_service.runtime.provider import RuntimeProvider
from agent_service.runtime.selection import make_protocol
from agent_service.state.redis import Redis
from agent_service.tasks.background import Background
from agent_service.tasks.event_log import EventLog
from agent_service.tasks.events import Events
from agent_service.tasks.queue import Tasks
from agent_service.tasks.tracing import TaskSpans
from agent_service.tasks.worker import Worker
from agent_service.telemetry.metrics import Metrics
from agent_service.telemetry.tracing import Tracing
from agent_service.telemetry.tracing import start as start_tracing

if TYPE_CHECKING:
    from agent_service.auth.tokens.tokens import Tokens
    from agent_service.gateway.server import Gateway
    from agent_service.tooling.toolbox import McpToolbox

# For this time after its approvals expired, a turn in a conversation can still go on.
_KEEP_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Components:
    """The components of one app.

    `provider` answers turns, and `model` is the provider of the model: the same unless a runtime answers, and None if
    the runtime has no model of ours. `credentials` is None where no key is needed.
    """

    settings: Settings
    lifecycle: Lifecycle
    metrics: Metrics
    provider: Provider
    model: Provider | None
    credentials: Refusable | None
    turns: Turns
    redis: Redis
    clients: Clients
    tokens: "Tokens | None"
    limits: Limits
    approvals: Approvals
    dialogue: Dialogue
    tasks: Tasks
    worker: Worker
    event_log: EventLog
    events: Events
    background: Background
    checks: Mapping[str, Check]
    tracing: Tracing
    gateway: "Gateway | None"
    toolbox: "McpToolbox | None"

    @asynccontextmanager
    async def open(self, gateway_listener: socket.socket | None = None) -> AsyncIterator[None]:
        """Run the tools and the gateway, and close the components at the end of the context.

        Their users must end earlier, or would reopen them. The gateway uses `gateway_listener` if there is one.
        """
        try:
            async with AsyncExitStack() as stack:
                if self.tokens is not None:
                    await stack.enter_async_context(self.tokens.running())
                if self.toolbox is not None:
                    await stack.enter_async_context(self.toolbox.running())
                if self.gateway is not None:
                    await stack.enter_async_context(self.gateway.running(gateway_listener))
                yield
        finally:
            await self.provider.close()
            if self.model is not None and self.model is not self.provider:
                await self.model.close()
            await self.event_log.close()
            await self.events.close()
            await self.approvals.close()
            await self.limits.close()
            await self.redis.close()
            await self.tracing.close()


def make_components(settings: Settings, lifecycle: Lifecycle, *, counts_waiting: bool = True) -> Components:
    """Return the components, created but not opened.

    Args:
        settings: settings of the components, with the address of a Redis.
        lifecycle: lifecycle of the process.
        counts_waiting: whether calls through the gateway that wait count as throttled requests.
    """
    counted = Metrics(version=__version__, provider=settings.model_provider, model=settings.model)
    made = make_model(settings, counted)
    model = made.provider
    turns = Turns()
    runtime = None if settings.runtime_url is None else make_protocol(settings, settings.runtime_url)
    tracing = start_tracing(settings)
    if settings.redis_address is None:
        raise ValueError("The app needs the address of a Redis server; `serve` starts one when none is configured.")
    redis = Redis(settings.redis_address, prefix=settings.state_prefix)
    tokens = make_tokens(settings, counted)
    clients = Clients(settings, tokens)
    limits = _make_limits(settings, redis, counted, clients)
    toolbox = make_toolbox(settings, counted, tracing)
    provider, account, spans = make_answering(
        settings,
        model=model,
        toolbox=toolbox,
        runtime=runtime,
        turns=turns,
        metrics=counted,
        limits=limits,
        tracing=tracing,
    )
    prompt_file = settings.secret_file(SYSTEM_PROMPT_NAME)
    # The settings also strip white space around a value that they read from a file.
    prompt = SecretFile(settings.system_prompt, prompt_file, lambda text: valid_system_prompt(text.strip()))

    def agent(timeout_seconds: float, waiting: Waiting, *, stream_seconds: float | None = None) -> Agent:
        return Agent(
            provider,
            account,
            system_prompt=prompt.current,
            timeout_seconds=timeout_seconds,
            stream_seconds=stream_seconds,
            waiting=waiting,
            spans=spans,
            log_content=settings.log_content,
        )

    tasks = Tasks(
        redis,
        max_attempts=settings.task_max_attempts,
        deadline_seconds=settings.task_deadline_seconds,
        result_ttl_seconds=settings.task_result_ttl_seconds,
        queue_limit=settings.task_queue_limit,
        on_damaged=counted.damaged_records.inc,
    )
    conversations = Conversations(
        redis,
        max_messages=settings.conversation_max_messages,
        max_tokens=settings.conversation_max_tokens,
        ttl_seconds=settings.conversation_ttl_seconds,
    )
    approvals = Approvals(
        redis,
        ttl_seconds=settings.approval_ttl_seconds,
        keep_seconds=max(_KEEP_SECONDS, math.ceil(settings.task_deadline_seconds)),
        longest_answer_seconds=settings.longest_answer_seconds,
        approvers=frozenset(settings.approvers),
        metrics=counted,
    )
    events = Events(redis, lifecycle, tasks.note_damaged)
    event_log = EventLog(redis, events)
    worker = Worker(
        tasks,
        agent(settings.task_timeout_seconds, nullcontext),
        limits,
        lifecycle,
        TaskSpans(tracing.tracer()),
        approvals=approvals,
        conversations=conversations,
        log=event_log,
        metrics=counted,
        concurrency=settings.worker_concurrency,
        most_accepted=bounds(settings).in_flight,
    )
    return Components(
        settings=settings,
        lifecycle=lifecycle,
        metrics=counted,
        provider=provider,
        model=model,
        credentials=made.credentials,
        turns=turns,
        redis=redis,
        clients=clients,
        tokens=tokens,
        limits=limits,
        approvals=approvals,
        dialogue=Dialogue(
            agent(
                settings.request_timeout_seconds,
                counted.throttled.track_inprogress,
                stream_seconds=settings.stream_timeout_seconds,
            ),
            conversations,
            approvals,
            counted,
        ),
        tasks=tasks,
        worker=worker,
        event_log=event_log,
        events=events,
        background=Background(tasks, worker, conversations, approvals),
        checks=make_checks(
            settings,
            model=model,
            runtime=provider if isinstance(provider, RuntimeProvider) else None,
            redis=redis,
            tasks=tasks,
            limits=limits,
            approvals=approvals,
            tokens=tokens,
            metrics=counted,
        ),
        tracing=tracing,
        gateway=None
        if settings.gateway_port is None
        else make_gateway(
            settings,
            lifecycle,
            turns=turns,
            endpoint=made.endpoint,
            places=made.places,
            limits=limits,
            metrics=counted,
            tracing=tracing,
            waiting=counted.throttled.track_inprogress if counts_waiting else nullcontext,
            toolbox=toolbox,
        ),
        toolbox=toolbox,
    )


def _make_limits(settings: Settings, redis: Redis, metrics: Metrics, clients: Clients) -> Limits:
    terms = Terms.of(settings)

    def count(usage: Usage, client: str | None) -> None:
        label = clients.label(client)
        metrics.callers.count_tokens(label, sent=usage.input_tokens, received=usage.output_tokens)

    return Limits(
        redis,
        requests_per_minute=settings.rate_limit_requests,
        tokens_per_minute=settings.tokens_per_minute,
        budget=Budget(redis, terms),
        shares=Shares(
            redis,
            of_client=terms.limited_to(settings.client_budget_tokens, settings.client_budget_cost),
            of_tenant=terms.limited_to(settings.tenant_budget_tokens, settings.tenant_budget_cost),
        ),
        history=History(redis, terms.prices, days=settings.usage_history_days, of_fallbacks=terms.of_fallbacks),
        of_client=Rates(settings.client_rate_limit_requests, settings.client_tokens_per_minute),
        of_tenant=Rates(settings.tenant_rate_limit_requests, settings.tenant_tokens_per_minute),
        count=count,
    )
