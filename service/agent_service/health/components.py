"""The checks of the components of a process."""

import math
from typing import TYPE_CHECKING

from agent_service.agent.fallbacks.several import Several, is_several
from agent_service.agent.provider import Provider
from agent_service.chat.approvals import Approvals
from agent_service.config.settings import Settings
from agent_service.health.checks import CHECK_SECONDS, QUIET_CHECK_SECONDS, Check, ComponentDownError
from agent_service.health.publish import PRIMARY, PUBLISH_SECONDS
from agent_service.limits.budget import Account, Budget, UnknownError
from agent_service.limits.limits import Limits
from agent_service.runtime.provider import RuntimeProvider
from agent_service.state.redis import Redis
from agent_service.tasks.queue import Tasks
from agent_service.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from agent_service.auth.tokens.tokens import Tokens

# It is in the same pod, so the check costs little, and it is what a user of a new agent waits for.
_RUNTIME_SECONDS = 5.0

# Autoscalers read the depth of the queue about every 15 s; counting is cheap.
_COUNT_SECONDS = 5.0


def make_checks(
    settings: Settings,
    *,
    model: Provider | None,
    runtime: RuntimeProvider | None,
    redis: Redis,
    tasks: Tasks,
    limits: Limits,
    approvals: Approvals,
    tokens: "Tokens | None",
    metrics: Metrics,
) -> dict[str, Check]:
    """Return the check of each component, by its name in `/health`."""

    async def state() -> str:
        await redis.check()
        return "The state store accepts writes."

    checks = {
        **({} if model is None else {"model_api": _model_check(settings, model)}),
        **({PRIMARY: _primary_check(model)} if is_several(model) else {}),
        **({} if runtime is None else {"runtime": Check(runtime.state, every_seconds=_RUNTIME_SECONDS)}),
        "redis": Check(state, every_seconds=CHECK_SECONDS),
        "queue": _queue_check(tasks, limits, approvals, metrics),
        **({} if tokens is None else {"issuers": _issuers_check(tokens)}),
    }
    budget = _budget_check(limits.budget, metrics)
    return checks if budget is None else checks | {"budget": budget}


def _model_check(settings: Settings, model: Provider) -> Check:
    async def check() -> str:
        await model.check()
        if is_several(model):
            return model.answers
        return f"The provider {settings.model_provider} answers for model {model.model}."

    return Check(check, every_seconds=CHECK_SECONDS, quiet_seconds=QUIET_CHECK_SECONDS)


def _primary_check(model: Several) -> Check:
    return Check(model.check_own, every_seconds=PUBLISH_SECONDS)


def _queue_check(tasks: Tasks, limits: Limits, approvals: Approvals, counted: Metrics) -> Check:
    async def check() -> str:
        due = 0
        try:
            counts = await tasks.count()
            for status, number in counts.items():
                counted.tasks.labels(status).set(number)
            counted.queue_depth.set(counts["pending"])
            counted.approvals_waiting.set(await approvals.count())
            due = 0 if await limits.tokens_wait() else await tasks.due()
        finally:
            # Autoscalers use this metric: tasks that were due before an outage of Redis must not add workers during it.
            counted.tasks_due.set(due)
        return f"{counts['pending']} tasks are pending, {counts['running']} are running."

    return Check(check, every_seconds=_COUNT_SECONDS)


def _issuers_check(tokens: "Tokens") -> Check:
    """Return the check of the issuers of tokens, whose keys are fetched in any case: it only reads the result."""

    async def check() -> str:
        states = tokens.states()
        failing = [state for state in states if state.failure is not None]
        if failing:
            sentences = []
            for issuer, failure, keys in failing:
                effect = "the earlier ones stay in use" if keys else "its tokens are answered 503"
                sentences.append(f"The keys of {issuer} could not be fetched ({failure}): {effect}.")
            raise ComponentDownError(str(failing[0].failure), " ".join(sentences))
        known = sum(state.keys > 0 for state in states)
        return f"The keys of {known} of {len(states)} issuers are known."

    return Check(check, every_seconds=_COUNT_SECONDS)


def _budget_check(budget: Budget, counted: Metrics) -> Check | None:
    def publish(account: Account) -> None:
        # The usage of this process alone must not be mistaken for a low usage of the agent.
        counted.budget_ratio.set(budget.share(account) if account.known else math.nan)
        counted.budget_tokens.set(account.spent.tokens if account.known else math.nan)
        counted.budget_cost.set(account.spent.money if account.known else math.nan)
        counted.budget_stops.set(budget.stops and budget.share(account) >= 1)

    async def check() -> str:
        publish(budget.account())
        account = await budget.used()
        publish(account)
        if not account.known:
            raise UnknownError(account.period)
        return f"{budget.share(account):.0%} of the budget of {account.period} is used."

    return Check(check, every_seconds=_COUNT_SECONDS) if budget.terms.on else None
