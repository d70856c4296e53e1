"""From settings to the working parts, for the API and for the worker alike."""

import math
from contextlib import nullcontext

import structlog

from agent_service import __version__
from agent_service.agent.claude.credentials import Credentials
from agent_service.agent.echo import EchoProvider
from agent_service.agent.provider import Provider, Waiting
from agent_service.agent.tracing import TurnSpans
from agent_service.agent.turn import Agent
from agent_service.auth import Clients
from agent_service.chat.conversations import Conversations
from agent_service.chat.dialogue import Dialogue
from agent_service.config.secret_file import SecretFile
from agent_service.config.settings import API_KEY_NAME, SYSTEM_PROMPT_NAME, Settings, valid_system_prompt
from agent_service.health.checks import CHECK_SECONDS, QUIET_CHECK_SECONDS, Check
from agent_service.lifecycle import Lifecycle
from agent_service.limits.budget import Account, Budget, Prices, Terms, UnknownError
from agent_service.limits.limits import Limits
from agent_service.network.addresses import model_api_address
from agent_service.routes.parts import Parts
from agent_service.state.redis import Redis
from agent_service.tasks.queue import Tasks
from agent_service.tasks.tracing import TaskSpans
from agent_service.tasks.worker import Worker
from agent_service.telemetry.metrics import Metrics
from agent_service.telemetry.tracing import start as start_tracing

_log = structlog.get_logger(__name__)

ANTHROPIC = "https://api.anthropic.com"

# Autoscalers look at the depth of the queue every 15 s or so; counting costs next to nothing.
_COUNT_SECONDS = 5.0


def make_parts(settings: Settings, lifecycle: Lifecycle) -> Parts:
    """Make the parts.

    Args:
        settings: what they are told, with the address of a Redis.
        lifecycle: of the process.
    """
    counted = Metrics(version=__version__, provider=settings.model_provider, model=settings.model)
    provider, credentials = _make_provider(settings, counted)
    tracing = start_tracing(settings)
    if settings.redis_address is None:
        raise ValueError("The app needs the address of a Redis server; `serve` starts one when none is configured.")
    redis = Redis(settings.redis_address, prefix=settings.state_prefix)
    limits = Limits(
        redis,
        requests_per_minute=settings.rate_limit_requests,
        tokens_per_minute=settings.tokens_per_minute,
        budget=Budget(redis, _budget_terms(settings)),
    )
    spans = TurnSpans(
        tracing.tracer(), provider=settings.model_provider, model=provider.model, max_tokens=settings.max_tokens
    )

    prompt_file = settings.secret_file(SYSTEM_PROMPT_NAME)
    # What the settings read from a file has no white space around it either.
    prompt = SecretFile(settings.system_prompt, prompt_file, lambda text: valid_system_prompt(text.strip()))

    def agent(timeout_seconds: float, waiting: Waiting, *, stream_seconds: float | None = None) -> Agent:
        return Agent(
            provider,
            counted,
            system_prompt=prompt.current,
            timeout_seconds=timeout_seconds,
            stream_seconds=stream_seconds,
            charge=limits.charge,
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
    return Parts(
        settings=settings,
        lifecycle=lifecycle,
        metrics=counted,
        provider=provider,
        credentials=credentials,
        redis=redis,
        clients=Clients(settings),
        limits=limits,
        dialogue=Dialogue(
            agent(
                settings.request_timeout_seconds,
                counted.throttled.track_inprogress,
                stream_seconds=settings.stream_timeout_seconds,
            ),
            conversations,
        ),
        tasks=tasks,
        worker=Worker(
            tasks,
            agent(settings.task_timeout_seconds, nullcontext),
            limits,
            lifecycle,
            TaskSpans(tracing.tracer()),
            concurrency=settings.worker_concurrency,
        ),
        checks=_make_checks(
            settings,
            provider,
            redis,
            _queue_check(tasks, limits, counted),
            _budget_check(limits.budget, counted),
        ),
        tracing=tracing,
    )


def _budget_terms(settings: Settings) -> Terms:
    written, read = settings.price_cache_write, settings.price_cache_read
    prices = Prices(
        settings.price_input,
        settings.price_output,
        cache_write=settings.price_input if written is None else written,
        cache_read=settings.price_input if read is None else read,
    )
    return Terms(
        settings.budget_period,
        settings.budget_tokens,
        settings.budget_cost,
        stops=settings.budget_action == "stop",
        prices=prices,
    )


def _make_checks(
    settings: Settings, provider: Provider, redis: Redis, queue: Check, budget: Check | None
) -> dict[str, Check]:
    async def model_api() -> str:
        await provider.check()
        return f"The provider {settings.model_provider} answers for model {provider.model}."

    async def state() -> str:
        await redis.check()
        return "The store of the state takes writes."

    checks = {
        "model_api": Check(model_api, every_seconds=CHECK_SECONDS, quiet_seconds=QUIET_CHECK_SECONDS),
        "redis": Check(state, every_seconds=CHECK_SECONDS),
        "queue": queue,
    }
    return checks if budget is None else checks | {"budget": budget}


def _queue_check(tasks: Tasks, limits: Limits, counted: Metrics) -> Check:
    async def look() -> str:
        due = 0
        try:
            counts = await tasks.count()
            for status, number in counts.items():
                counted.tasks.labels(status).set(number)
            counted.queue_depth.set(counts["pending"])
            due = 0 if await limits.tokens_wait() else await tasks.due()
        finally:
            # Autoscalers go by it: what was due before Redis was lost must not bring workers for as long as it is away.
            counted.tasks_due.set(due)
        return f"{counts['pending']} tasks wait, {counts['running']} run."

    return Check(look, every_seconds=_COUNT_SECONDS)


def _budget_check(budget: Budget, counted: Metrics) -> Check | None:
    def tell(account: Account) -> None:
        # What this process alone used says nothing: nobody is to take it for little.
        counted.budget_ratio.set(budget.share(account) if account.known else math.nan)
        counted.budget_tokens.set(account.spent.tokens if account.known else math.nan)
        counted.budget_cost.set(account.spent.money if account.known else math.nan)
        counted.budget_stops.set(budget.stops and budget.share(account) >= 1)

    async def look() -> str:
        tell(budget.account())
        account = await budget.used()
        tell(account)
        if not account.known:
            raise UnknownError(account.period)
        return f"{budget.share(account):.0%} of the budget of {account.period} is used."

    return Check(look, every_seconds=_COUNT_SECONDS) if budget.terms.on else None


def _make_provider(settings: Settings, counted: Metrics) -> tuple[Provider, Credentials | None]:
    if settings.model_provider == "echo" or settings.anthropic_api_key is None:
        return EchoProvider(), None
    key, file = settings.anthropic_api_key.get_secret_value(), settings.secret_file(API_KEY_NAME)
    credentials = Credentials(key, file, counted.credentials_refused.set)
    base_url, left_out = model_api_address(settings.anthropic_base_url or ANTHROPIC)
    if left_out:
        _log.warning("Base URL ended with a path of the API, which was left out", left_out=left_out)
    # The SDK takes three quarters of the time that a start takes: only an agent that uses it waits for it.
    from agent_service.agent.claude.provider import ClaudeProvider  # noqa: PLC0415

    provider = ClaudeProvider(
        model=settings.default_model,
        max_tokens=settings.max_tokens,
        max_retries=settings.model_max_retries,
        credentials=credentials,
        base_url=base_url,
    )
    return provider, credentials
