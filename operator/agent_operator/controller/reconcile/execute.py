"""Execution of a plan: delete, then apply stage by stage, and record the results."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus

import structlog

from agent_operator.controller.reconcile.apply import Cluster
from agent_operator.controller.reconcile.disputes import Conceded, Disputes
from agent_operator.controller.reconcile.gather import Gatherer
from agent_operator.controller.reconcile.plan import lasting
from agent_operator.controller.reconcile.secret_cache import Secrets
from agent_operator.controller.reconcile.steps import Apply, Delete, Name, Plan
from agent_operator.controller.status.drift import Left, Why
from agent_operator.controller.status.pod_problems import Problem
from agent_operator.kube.cache import Cache
from agent_operator.kube.drift import foreign, named, needs_applying
from agent_operator.kube.errors import ApiError
from agent_operator.kube.resources import SECRET, Key
from agent_operator.manifests.document import Document

log = structlog.get_logger(__name__)

# What the pods need is applied before the pods; what scales and guards them is applied after.
STAGES = (
    {"ConfigMap", "Secret", "ServiceAccount", "Service", "NetworkPolicy"},
    {"Deployment"},
    {"HorizontalPodAutoscaler", "ScaledObject", "PodDisruptionBudget", "Ingress", "HTTPRoute", "ServiceMonitor"},
)


@dataclass
class Outcome:
    """The outcome of executing a plan.

    `refused` is what could not be done, and cannot be done until a user changes something. `outdated` means that an
    object exists which the plan assumed missing: gather and plan again. `namespace_ends` means that the whole
    namespace is being deleted, and the agent with it.
    """

    refused: list[Problem] = field(default_factory=list)
    outdated: bool = False
    namespace_ends: bool = False


class Executor:
    """Executes the plans of agents."""

    def __init__(self, cluster: Cluster, cache: Cache, secrets: Secrets, gatherer: Gatherer) -> None:
        self._cluster = cluster
        self._cache = cache
        self._secrets = secrets
        self._gatherer = gatherer
        self._conceded: dict[Key, dict[Name, Conceded]] = {}
        self._disputes = Disputes()

    def conceded(self, key: Key) -> Mapping[Name, Conceded]:
        """Return the objects of an agent that are left with foreign changes, and why."""
        return self._conceded.get(key, {})

    def left(self, key: Key) -> list[Left]:
        """Return the conceded objects that still differ from the desired ones, and forget the rest."""
        left = []
        for (kind, name), conceded in list(self._conceded.get(key, {}).items()):
            found = self._cache.get(kind, key.namespace, name)
            if found is not None and needs_applying(conceded.document, found):
                left.append(Left(kind, name, conceded.why, tuple(foreign(conceded.document, found))))
            else:
                del self._conceded[key][kind, name]
        return left

    def forget(self, key: Key) -> None:
        """Forget an agent that is gone."""
        self._conceded.pop(key, None)
        self._disputes.forget(key)

    async def execute(self, key: Key, plan: Plan) -> Outcome:
        """Execute the plan, up to the first stage that is refused.

        Raises transient errors: ApiError of a busy API server or a changed object, and UnreachableError.
        """
        for delete in plan.deletes:
            await self._delete(key, delete)
            log.info(
                "Deleted an object that is no longer desired",
                namespace=key.namespace,
                name=delete.name,
                kind=delete.kind,
            )
        for stage in STAGES:
            steps = [step for step in plan.applies if step.kind in stage]
            results = await asyncio.gather(*(self._apply(key, step) for step in steps), return_exceptions=True)
            outcome = Outcome()
            for step, error in zip(steps, results, strict=True):
                if error is None:
                    continue
                if self._is_news(key, step, error):
                    return Outcome(outdated=True)
                if not isinstance(error, ApiError) or error.passing:
                    raise error
                if "NamespaceTerminating" in error.causes:
                    return Outcome(namespace_ends=True)
                outcome.refused.append(_refusal(step, error))
            if outcome.refused:
                return outcome
        return Outcome()

    def _is_news(self, key: Key, step: Apply, error: BaseException) -> bool:
        """Return whether an object to be created exists already, and this was not known."""
        exists = step.operation == "create" and isinstance(error, ApiError) and error.code == HTTPStatus.CONFLICT
        return exists and self._gatherer.note_existing(key, step.identity)

    async def _delete(self, key: Key, step: Delete) -> None:
        try:
            await self._cluster.delete(key.namespace, step)
        except ApiError as error:
            if error.code == HTTPStatus.CONFLICT:
                # The remembered Secrets would be just as stale on the next attempt.
                self._secrets.forget(key)
            raise

    async def _apply(self, key: Key, step: Apply) -> None:
        lost = bool(step.foreign) and self._disputes.is_lost(key, step.identity, step.foreign)
        try:
            document = await self._cluster.apply(replace(step, foreign=()) if lost else step)
            found = tuple(foreign(step.document, document)) if not step.foreign else ()
            if any(each.manager for each in found):
                # If the managed fields had been cleared, only the apply shows foreign entries.
                step = replace(step, foreign=found)
                document = await self._cluster.apply(step)
        except ApiError as error:
            if step.kind == SECRET.kind and error.code == HTTPStatus.CONFLICT:
                self._secrets.forget(key)
            raise
        if step.kind == SECRET.kind:
            self._secrets.applied(key, document)
        else:
            self._cache.store(step.kind, document)
        log.info("Applied", namespace=key.namespace, name=key.name, kind=step.kind, operation=step.operation)
        if step.foreign and not lost:
            self._disputes.removed(key, step.identity, step.foreign)
            what = named(step.foreign)
            log.info(
                "Removed entries of other clients", namespace=key.namespace, name=key.name, kind=step.kind, what=what
            )
        self._concede(key, step, document, why="ChangedAgain" if lost else "ChangedByAdmission")

    def _concede(self, key: Key, step: Apply, document: Document, *, why: Why) -> None:
        """Leave an object as it is if it differs from what was just applied."""
        if not needs_applying(step.document, document):
            self._conceded.get(key, {}).pop(step.identity, None)
            return
        # Most likely an admission webhook or another controller changed it. Applying again would never end.
        self._conceded.setdefault(key, {})[step.identity] = Conceded(lasting(document), why, step.document)
        log.warning(
            "Left an object as it is because another client changed it at once",
            namespace=key.namespace,
            name=key.name,
            kind=step.kind,
        )


def _refusal(step: Apply, error: ApiError) -> Problem:
    """Return the problem that the status reports for a refused apply."""
    over_quota = error.code == HTTPStatus.FORBIDDEN and "exceeded quota" in error.message
    _, name = step.identity
    return Problem(
        "QuotaExceeded" if over_quota else "ApplyRefused", f"{step.kind} {name} was refused: {error.message}"
    )
