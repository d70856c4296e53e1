"""Reconciles one agent: gather, plan, apply, publish. Idempotent, from any state."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus

import structlog

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.bounds import UNREADABLE
from agent_operator.api.validation import InvalidAgentError, parse
from agent_operator.classes.choice import Classes
from agent_operator.controller.metrics import Metrics
from agent_operator.controller.reconcile.adoption import wants_adoption
from agent_operator.controller.reconcile.apply import Cluster
from agent_operator.controller.reconcile.client_keys import with_settled_keys
from agent_operator.controller.reconcile.conflicts import described
from agent_operator.controller.reconcile.execute import Executor
from agent_operator.controller.reconcile.gather import Gatherer
from agent_operator.controller.reconcile.permitted import permitted
from agent_operator.controller.reconcile.plan import make_plan
from agent_operator.controller.reconcile.publish import Publisher
from agent_operator.controller.reconcile.secret_cache import Secrets, recheck_seconds
from agent_operator.controller.reconcile.server_references import (
    FOLLOW_SECONDS,
    RETRY_SECONDS,
    References,
    Resolved,
    refers,
)
from agent_operator.controller.reconcile.steps import Plan
from agent_operator.controller.status.dependencies import Report
from agent_operator.controller.status.mount_problems import mount_problem, waits_for_mounts
from agent_operator.controller.status.observe import observe, owned
from agent_operator.controller.status.pod_problems import Problem
from agent_operator.controller.status.runtime_problems import runtime_problem, runtime_that_starts
from agent_operator.controller.status.status import (
    Observation,
    is_ready,
    seconds_until_degraded,
    status_of,
    status_of_invalid,
    status_of_refused,
)
from agent_operator.controller.status.tool_lists import addresses_in
from agent_operator.controller.watch.pod_reports import Reports
from agent_operator.kube.cache import Cache
from agent_operator.kube.errors import ApiError
from agent_operator.kube.owner import Owner
from agent_operator.kube.resources import AGENT, DEPLOYMENT, SECRET, Key
from agent_operator.manifests import desired
from agent_operator.manifests.client_keys import new_key
from agent_operator.manifests.config_map import config_checksum
from agent_operator.manifests.document import Document
from agent_operator.policy.settings import Policy

log = structlog.get_logger(__name__)

# Seconds until the next check of what no watch reports: a conflicting object, an exhausted quota.
RECHECK_SECONDS = 10.0
# Seconds until the Events of a pod that does not start are read again. The kubelet reports a missing Secret, and a
# failed probe, within a second.
EVENTS_SECONDS = 3.0
# Anything refused for a different cause waits for a change of the agent, or for the next list of everything.
UNWATCHED_CAUSES = {"NameConflict", "QuotaExceeded"}

# How many agents of which only a summary is cached are reconciled at once: each may take 50 MB.
MAX_LARGE = 2

# An object that changed in the meantime and a busy API server are not reported.
NO_NEWS = {HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
# From this failure on, the status reports why the API server cannot apply.
PUBLISH_AT_FAILURE = 2


class Reconciler:
    """Reconciles the objects of agents with their specs.

    `served` returns whether the cluster has a kind, and `classes` the classes of agents. A spec that `policy` or its
    class refuses is not applied.
    """

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        metrics: Metrics,
        reports: Reports,
        *,
        served: Callable[[str], bool],
        classes: Callable[[], Classes],
        policy: Policy | None = None,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._metrics = metrics
        self._reports = reports
        self._served = served
        self._classes = classes
        self._policy = policy
        self._secrets = Secrets(cluster)
        self._references = References(cluster)
        self._gatherer = Gatherer(cluster, cache, self._secrets)
        self._executor = Executor(cluster, cache, self._secrets, self._gatherer)
        self._publisher = Publisher(cluster, cache)
        self._failures: dict[Key, int] = {}
        self._large = asyncio.Semaphore(MAX_LARGE)

    def recheck_secrets(self) -> None:
        """Check every Secret again at the next reconcile, because no watch reports their changes."""
        self._secrets.recheck_all()

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile one agent, and return the seconds until the next reconcile; None to wait for a change.

        Raises transient errors (the API server is busy or unreachable), for the caller to retry.
        """
        document = self._cache.agent(key)
        if document is None or "deletionTimestamp" in document["metadata"]:
            self._forget(key)
            return None
        with self._metrics.duration.time():
            try:
                if self._cache.is_whole(AGENT.kind, *key) and UNREADABLE not in document:
                    result, again = await self._reconcile_agent(key, document)
                else:
                    result, again = await self._reconcile_large_agent(key, document)
            except Exception:
                self._metrics.reconciles.labels("error").inc()
                raise
        self._failures.pop(key, None)
        self._metrics.reconciles.labels(result).inc()
        # The response to a status write may reveal a change before its event, which the cache then ignores.
        return 0.0 if _is_changed(document, self._cache.agent(key)) else again

    async def _reconcile_large_agent(self, key: Key, summary: Document) -> tuple[str, float | None]:
        """Reconcile an agent of which only a summary is cached, after reading it if it can be read.

        Only a few run at once: writing such a status takes the API server seconds, and more of them would time out.
        """
        async with self._large:
            document = summary if UNREADABLE in summary else await self._cluster.get(AGENT, *key)
            if document is None or "deletionTimestamp" in document["metadata"]:
                return "success", None
            return await self._reconcile_agent(key, document)

    def _forget(self, key: Key) -> None:
        self._gatherer.forget(key)
        self._publisher.forget(key)
        self._reports.forget(key)
        self._executor.forget(key)
        self._failures.pop(key, None)

    async def _reconcile_agent(self, key: Key, document: Document) -> tuple[str, float | None]:
        try:
            agent = parse(document)
        except InvalidAgentError as error:
            metadata = document["metadata"]
            faults = [str(fault) for fault in error.faults]
            old = document.get("status", {})
            await self._publisher.publish(
                document, status_of_invalid(metadata["generation"], faults, old, datetime.now(UTC))
            )
            return "invalid", None
        owner = Owner(agent.name, agent.uid)
        resolved = await self._references.resolve(agent, document.get("status", {}))
        follows, agent = refers(agent), resolved.agent
        applied = permitted(agent, self._policy, self._classes())
        if applied.refusal is not None:
            deployment = owned(self._cache, DEPLOYMENT, key, agent.name, owner)
            status = status_of_refused(applied, deployment, document.get("status", {}), datetime.now(UTC))
            await self._publisher.publish(document, status)
            return "refused", None
        resolved, agent = replace(resolved, agent=applied.agent), applied.agent
        wanted = desired(agent)
        problems = await self._converge(key, document, agent, owner, wanted)
        if problems is None:
            return "success", None
        problems += resolved.problems if resolved.stops else []
        status = await self._judge(key, document, resolved, owner, problems)
        await self._publisher.publish(document, status)
        pods = self._cache.pods(key)
        starts = waits_for_mounts(pods) is not None or runtime_that_starts(pods) is not None
        again = EVENTS_SECONDS if starts else _again(status, problems, wanted)
        if follows:
            longest = RETRY_SECONDS if resolved.problems else FOLLOW_SECONDS
            again = longest if again is None else min(again, longest)
        return ("hindered" if problems else "success"), again

    async def _converge(
        self, key: Key, document: Document, agent: AgentDeployment, owner: Owner, wanted: Sequence[Document]
    ) -> list[Problem] | None:
        """Gather, plan and execute. Return what could not be done, or None if the agent is gone or being deleted."""
        adopt = wants_adoption(document)
        while True:
            observed = await self._gatherer.observe(key, owner, self._possible(wanted))
            if observed is None:
                return None
            settled = with_settled_keys(document, wanted, observed, new_key)
            conceded = self._executor.conceded(key)
            plan = make_plan(owner, self._possible(settled), observed, adopt=adopt, conceded=conceded)
            try:
                outcome = await self._executor.execute(key, plan)
            except ApiError as error:
                await self._publish_failure(key, document, agent, owner, error)
                raise
            if outcome.namespace_ends:
                return None
            # Each iteration learns of at least one more object, so the loop ends.
            if not outcome.outdated:
                return [*self._impossible(settled), *_conflicts(key, plan, adopt=adopt), *outcome.refused]

    async def _judge(
        self, key: Key, document: Document, resolved: Resolved, owner: Owner, problems: list[Problem]
    ) -> Document:
        """Return the current status of the agent. It may serve without tools whose references are unresolved."""
        agent = resolved.agent
        reported, left = self._reported(key, agent), self._executor.left(key)
        seen = observe(self._cache, key, agent, owner, problems=problems, reported=reported, left=left)
        seen.addresses = resolved.addresses
        seen.unresolved = [each for each in resolved.problems if each not in problems]
        seen.in_events = [problem async for problem in self._in_events(key, agent, seen)]
        return status_of(agent, seen, document.get("status", {}), datetime.now(UTC))

    async def _in_events(self, key: Key, agent: AgentDeployment, seen: Observation) -> AsyncIterator[Problem]:
        """Yield the problems of pods that only the kubelet reports, in Events."""
        waiting, starting = waits_for_mounts(seen.pods), runtime_that_starts(seen.pods)
        if waiting is not None and seen.deployment is not None:
            problem = mount_problem(seen.deployment, await self._cluster.pod_events(key.namespace, waiting))
            if problem is not None:
                yield problem
        if starting is not None and agent.spec.runtime is not None:
            events = await self._cluster.pod_events(key.namespace, starting["metadata"]["name"])
            problem = runtime_problem(starting, agent.spec.runtime, events, datetime.now(UTC))
            if problem is not None:
                yield problem

    def _reported(self, key: Key, agent: AgentDeployment) -> Report:
        """Return what the agent's pods reported of its budget, if it has one, of its dependencies and of its tools."""
        budget = agent.spec.budget if agent.spec.budget is not None and agent.spec.budget.limits_agent else None
        checksum = config_checksum(agent) if budget is not None or agent.spec.tools else ""
        return self._reports.expect(key, budget, checksum)

    async def _publish_failure(
        self, key: Key, document: Document, agent: AgentDeployment, owner: Owner, error: ApiError
    ) -> None:
        """Publish the error that the API server keeps returning; a first failure may be transient."""
        self._failures[key] = self._failures.get(key, 0) + 1
        if self._failures[key] >= PUBLISH_AT_FAILURE and error.code not in NO_NEWS:
            problem = Problem("ApplyFailing", f"The API server cannot apply the desired objects: {error.message}")
            kept = Resolved(agent, addresses=addresses_in(document.get("status", {})))
            await self._publisher.publish(document, await self._judge(key, document, kept, owner, [problem]))

    def _possible(self, wanted: Sequence[Document]) -> list[Document]:
        """Return the objects whose kinds the cluster has."""
        return [each for each in wanted if self._served(each["kind"])]

    def _impossible(self, wanted: Sequence[Document]) -> list[Problem]:
        return [
            Problem(
                "KindNotInstalled",
                f"The cluster does not know {each['kind']} ({each['apiVersion']}): install its definitions, "
                "or leave it out of the spec",
            )
            for each in wanted
            if not self._served(each["kind"])
        ]


def _conflicts(key: Key, plan: Plan, *, adopt: bool) -> list[Problem]:
    return [Problem("NameConflict", text) for text in described(plan.conflicts, key.namespace, key.name, adopt=adopt)]


def _is_changed(before: Document, now: Document | None) -> bool:
    """Return whether an agent changed in more than its status."""
    if now is None:
        return True
    one, other = ({**each["metadata"], "resourceVersion": None} for each in (before, now))
    return one != other or before.get("spec") != now.get("spec")


def _again(status: Document, problems: Sequence[Problem], wanted: Sequence[Document]) -> float | None:
    """Return the seconds until the next check of what no watch reports, or None."""
    if any(problem.reason in UNWATCHED_CAUSES for problem in problems):
        return RECHECK_SECONDS
    makes_secrets = any(each["kind"] == SECRET.kind for each in wanted)
    secrets = recheck_seconds(serving=is_ready(status)) if makes_secrets else None
    outage = seconds_until_degraded(status, datetime.now(UTC))
    return min((seconds for seconds in (secrets, outage) if seconds is not None), default=None)
