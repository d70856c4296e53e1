"""One agent's way: gather what is there, decide, apply, tell. Idempotent: any number of times, from any state."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus

import structlog

from agent_operator.api.agent import AgentDeployment, InvalidAgentError, parse
from agent_operator.api.bounds import UNREADABLE
from agent_operator.controller.metrics import Metrics
from agent_operator.controller.reconcile.adoption import wants_adoption
from agent_operator.controller.reconcile.apply import Cluster
from agent_operator.controller.reconcile.client_keys import with_settled_keys
from agent_operator.controller.reconcile.conflicts import described
from agent_operator.controller.reconcile.disputes import Conceded, Disputes
from agent_operator.controller.reconcile.gather import Gatherer
from agent_operator.controller.reconcile.plan import Apply, Delete, Name, Owner, Plan, lasting, make_plan
from agent_operator.controller.reconcile.publish import Teller
from agent_operator.controller.reconcile.secret_cache import Secrets, look_again_seconds
from agent_operator.controller.status.dependencies import Report, seconds_until_degraded
from agent_operator.controller.status.drift import Left, Why
from agent_operator.controller.status.mount_problems import mount_trouble, waits_for_mounts
from agent_operator.controller.status.pod_problems import Trouble
from agent_operator.controller.status.status import (
    Observation,
    is_ready,
    status_of,
    status_of_invalid,
    status_of_refused,
)
from agent_operator.controller.watch.pod_reports import Reports
from agent_operator.kube.cache import Cache
from agent_operator.kube.drift import foreign, named, needs_applying
from agent_operator.kube.errors import ApiError
from agent_operator.kube.resources import AGENT, AUTOSCALER, DEPLOYMENT, SCALED_OBJECT, SECRET, Key, Resource
from agent_operator.manifests import desired
from agent_operator.manifests.client_keys import new_key
from agent_operator.manifests.config_map import config_checksum
from agent_operator.manifests.document import Document
from agent_operator.manifests.names import keda_autoscaler_name, worker_name
from agent_operator.policy.refusals import refusals
from agent_operator.policy.settings import Policy

log = structlog.get_logger(__name__)

# What the pods need is there before the pods are; what scales and guards them comes after.
STAGES = (
    {"ConfigMap", "Secret", "ServiceAccount", "Service", "NetworkPolicy"},
    {"Deployment"},
    {"HorizontalPodAutoscaler", "ScaledObject", "PodDisruptionBudget", "Ingress", "HTTPRoute", "ServiceMonitor"},
)

# How soon to look again at what no watch tells us of: an object that is in our way, a quota that has no room.
LOOK_AGAIN_SECONDS = 10.0
# How soon to ask again for Events of a pod whose containers wait: the kubelet tells of a missing Secret in a second.
MOUNT_SECONDS = 3.0
# What is refused for another cause waits for a change of the agent, or for the next list of everything.
UNWATCHED_CAUSES = {"NameConflict", "QuotaExceeded"}

# Agents of which only a summary is kept that are worked on at once: each may take 50 MB.
MAX_LARGE = 2

# Of an object that was changed meanwhile, and of an API server that is busy, nobody has to hear.
NO_NEWS = {HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
# From this try on the user is told what keeps the API server from doing what it is asked.
TELL_AT_FAILURE = 2


class Reconciler:
    """Brings the objects of agents in line with their specs.

    `served` returns whether the cluster has a kind. A spec that `policy` refuses is not carried out.
    """

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        metrics: Metrics,
        reports: Reports,
        *,
        served: Callable[[str], bool],
        policy: Policy | None = None,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._metrics = metrics
        self._reports = reports
        self._served = served
        self._policy = policy
        self._secrets = Secrets(cluster)
        self._gatherer = Gatherer(cluster, cache, self._secrets)
        self._teller = Teller(cluster, cache)
        self._conceded: dict[Key, dict[Name, Conceded]] = {}
        self._disputes = Disputes()
        self._failures: dict[Key, int] = {}
        self._large = asyncio.Semaphore(MAX_LARGE)

    def doubt_secrets(self) -> None:
        """Look at every Secret again at the next chance, as nothing tells us of changes to them."""
        self._secrets.doubt_all()

    async def reconcile(self, key: Key) -> float | None:
        """Bring one agent in line. Gives after how many seconds to look again, or None to wait for a change.

        Raises what passes by itself (the API server busy or away), for the caller to try again.
        """
        document = self._cache.agent(key)
        if document is None or "deletionTimestamp" in document["metadata"]:
            self._forget(key)
            return None
        with self._metrics.duration.time():
            try:
                if self._cache.is_whole(AGENT.kind, *key) and UNREADABLE not in document:
                    result, again = await self._bring_in_line(key, document)
                else:
                    result, again = await self._bring_large_in_line(key, document)
            except Exception:
                self._metrics.reconciles.labels("error").inc()
                raise
        self._failures.pop(key, None)
        self._metrics.reconciles.labels(result).inc()
        # The answer to the write of a status may have shown a change before its event, which then is no news.
        return 0.0 if _asks_something_else(document, self._cache.agent(key)) else again

    async def _bring_large_in_line(self, key: Key, summary: Document) -> tuple[str, float | None]:
        """Do it for an agent of which a summary is kept: read it if it can be read.

        A few of them at once, as writing a status takes the API server seconds, and more of them its time-out.
        """
        async with self._large:
            document = summary if UNREADABLE in summary else await self._cluster.get(AGENT, *key)
            if document is None or "deletionTimestamp" in document["metadata"]:
                return "success", None
            return await self._bring_in_line(key, document)

    def _forget(self, key: Key) -> None:
        self._gatherer.forget(key)
        self._teller.forget(key)
        self._reports.forget(key)
        self._conceded.pop(key, None)
        self._disputes.forget(key)
        self._failures.pop(key, None)

    async def _bring_in_line(self, key: Key, document: Document) -> tuple[str, float | None]:
        try:
            agent = parse(document)
        except InvalidAgentError as error:
            metadata = document["metadata"]
            faults = [str(fault) for fault in error.faults]
            old = document.get("status", {})
            await self._teller.tell(document, status_of_invalid(metadata["generation"], faults, old, datetime.now(UTC)))
            return "invalid", None
        owner = Owner(agent.name, agent.uid)
        if self._policy is not None and (refused := refusals(agent.spec, self._policy)):
            deployment = self._own(DEPLOYMENT, key, agent.name, owner)
            old = document.get("status", {})
            status = status_of_refused(agent.generation, list(map(str, refused)), deployment, old, datetime.now(UTC))
            await self._teller.tell(document, status)
            return "refused", None
        wanted = desired(agent.name, agent.namespace, agent.spec)
        observed = await self._gatherer.observe(key, owner, self._possible(wanted))
        if observed is None:
            return "success", None
        wanted = with_settled_keys(document, wanted, observed, new_key)
        adopt = wants_adoption(document)
        plan = make_plan(owner, self._possible(wanted), observed, adopt=adopt, conceded=self._conceded.get(key))
        try:
            hindrances = [*self._impossible(wanted), *_conflicts(key, plan, adopt=adopt)]
            hindrances += await self._carry_out(key, plan)
        except _NamespaceEndsError:
            return "success", None
        except _MetError:
            return await self._bring_in_line(key, document)
        except ApiError as error:
            await self._tell_of_failure(key, document, agent, owner, error)
            raise
        status = await self._judge(key, document, agent, owner, hindrances)
        await self._teller.tell(document, status)
        waits = waits_for_mounts(self._cache.pods(key)) is not None
        again = MOUNT_SECONDS if waits else _again(status, hindrances, wanted)
        return ("hindered" if hindrances else "success"), again

    async def _judge(
        self, key: Key, document: Document, agent: AgentDeployment, owner: Owner, hindrances: list[Trouble]
    ) -> Document:
        """The status that the agent deserves now."""
        seen = Observation(
            deployment=self._own(DEPLOYMENT, key, agent.name, owner),
            worker=self._own(DEPLOYMENT, key, worker_name(agent.name), owner),
            autoscaler=self._autoscaler(key, agent, agent.name, owner),
            worker_autoscaler=self._autoscaler(key, agent, worker_name(agent.name), owner),
            pods=self._cache.pods(key),
            hindrances=hindrances,
            reported=self._reported(key, agent),
            left=self._left(key),
        )
        waiting = waits_for_mounts(seen.pods)
        if waiting is not None and seen.deployment is not None:
            trouble = mount_trouble(seen.deployment, await self._cluster.pod_events(key.namespace, waiting))
            seen.mounts = [trouble] if trouble is not None else []
        return status_of(agent, seen, document.get("status", {}), datetime.now(UTC))

    def _reported(self, key: Key, agent: AgentDeployment) -> Report:
        """What the agent's pods reported of its budget, if it has one, and of its dependencies."""
        budget = agent.spec.budget
        checksum = config_checksum(agent.name, agent.namespace, agent.spec) if budget is not None else ""
        return self._reports.expect(key, budget, checksum)

    def _left(self, key: Key) -> list[Left]:
        """The objects that are left as others changed them."""
        left = []
        for (kind, name), conceded in list(self._conceded.get(key, {}).items()):
            found = self._cache.get(kind, key.namespace, name)
            if found is not None and needs_applying(conceded.document, found):
                left.append(Left(kind, name, conceded.why, tuple(foreign(conceded.document, found))))
            else:
                del self._conceded[key][kind, name]
        return left

    def _own(self, resource: Resource, key: Key, name: str, owner: Owner) -> Document | None:
        found = self._cache.get(resource.kind, key.namespace, name)
        return found if found is not None and owner.owns(found) else None

    def _autoscaler(self, key: Key, agent: AgentDeployment, name: str, owner: Owner) -> Document | None:
        """The HorizontalPodAutoscaler of a Deployment: ours, or what KEDA made of our ScaledObject, with its labels;
        the ScaledObject itself while KEDA has made none."""
        if agent.spec.autoscaling.engine != "keda":
            return self._own(AUTOSCALER, key, name, owner)
        scaled_object = self._own(SCALED_OBJECT, key, name, owner)
        if scaled_object is None:
            return None
        return self._cache.get(AUTOSCALER.kind, key.namespace, keda_autoscaler_name(name)) or scaled_object

    async def _tell_of_failure(
        self, key: Key, document: Document, agent: AgentDeployment, owner: Owner, error: ApiError
    ) -> None:
        """Say in the status what the API server keeps answering; the first time it may be a moment's trouble."""
        self._failures[key] = self._failures.get(key, 0) + 1
        if self._failures[key] >= TELL_AT_FAILURE and error.code not in NO_NEWS:
            trouble = Trouble("ApplyFailing", f"The API server cannot apply what is wanted: {error.message}")
            await self._teller.tell(document, await self._judge(key, document, agent, owner, [trouble]))

    def _possible(self, wanted: Sequence[Document]) -> list[Document]:
        """The objects whose kinds the cluster has."""
        return [each for each in wanted if self._served(each["kind"])]

    def _impossible(self, wanted: Sequence[Document]) -> list[Trouble]:
        return [
            Trouble(
                "KindNotInstalled",
                f"The cluster does not know {each['kind']} ({each['apiVersion']}): install its definitions, "
                "or leave it out of the spec",
            )
            for each in wanted
            if not self._served(each["kind"])
        ]

    async def _carry_out(self, key: Key, plan: Plan) -> list[Trouble]:
        """Do what the plan says, and give what could not be done, and will not be until somebody changes something."""
        hindrances: list[Trouble] = []
        for step in plan.deletes:
            await self._delete(key, step)
            log.info("Deleted what is no longer wanted", namespace=key.namespace, name=step.name, kind=step.kind)
        for stage in STAGES:
            steps = [step for step in plan.applies if step.kind in stage]
            results = await asyncio.gather(*(self._apply(key, step) for step in steps), return_exceptions=True)
            refusals = [
                _refusal(step, result) for step, result in zip(steps, results, strict=True) if result is not None
            ]
            if refusals:
                return hindrances + refusals
        return hindrances

    async def _delete(self, key: Key, step: Delete) -> None:
        try:
            await self._cluster.delete(key.namespace, step)
        except ApiError as error:
            if error.code == HTTPStatus.CONFLICT:
                # What is remembered of Secrets would be just as old the next time.
                self._secrets.forget(key)
            raise

    async def _apply(self, key: Key, step: Apply) -> None:
        name = (step.kind, step.document["metadata"]["name"])
        lost = bool(step.foreign) and self._disputes.is_lost(key, name, step.foreign)
        try:
            document = await self._cluster.apply(replace(step, foreign=()) if lost else step)
            found = tuple(foreign(step.document, document)) if not step.foreign else ()
            if any(each.manager for each in found):
                # Where the managed fields had been cleared, only the apply shows what others added.
                step = replace(step, foreign=found)
                document = await self._cluster.apply(step)
        except ApiError as error:
            if step.operation == "create" and error.code == HTTPStatus.CONFLICT and self._gatherer.meet(key, name):
                raise _MetError from error
            if step.kind == SECRET.kind and error.code == HTTPStatus.CONFLICT:
                self._secrets.forget(key)
            raise
        if step.kind == SECRET.kind:
            self._secrets.applied(key, document)
        else:
            self._cache.store(step.kind, document)
        log.info("Applied", namespace=key.namespace, name=key.name, kind=step.kind, operation=step.operation)
        if step.foreign and not lost:
            self._disputes.removed(key, name, step.foreign)
            what = named(step.foreign)
            log.info("Removed what others added", namespace=key.namespace, name=key.name, kind=step.kind, what=what)
        if not needs_applying(step.document, document):
            self._conceded.get(key, {}).pop(name, None)
        else:
            # An admission webhook, most likely, or another controller. To insist would be to write for ever.
            why: Why = "ChangedAgain" if lost else "ChangedByAdmission"
            self._conceded.setdefault(key, {})[name] = Conceded(lasting(document), why, step.document)
            log.warning(
                "Left an object as others changed it at once", namespace=key.namespace, name=key.name, kind=step.kind
            )


class _NamespaceEndsError(Exception):
    """The whole namespace is being deleted, and the agent with it: there is nothing to do, and nobody to tell."""


class _MetError(Exception):
    """Something is there that was believed missing: look at it, and decide again."""


def _conflicts(key: Key, plan: Plan, *, adopt: bool) -> list[Trouble]:
    return [Trouble("NameConflict", text) for text in described(plan.conflicts, key.namespace, key.name, adopt=adopt)]


def _refusal(step: Apply, error: BaseException) -> Trouble:
    """What to tell of a refused apply. Raises the error again if it passes by itself."""
    if not isinstance(error, ApiError) or error.passing:
        raise error
    if "NamespaceTerminating" in error.causes:
        raise _NamespaceEndsError from error
    reason = (
        "QuotaExceeded" if error.code == HTTPStatus.FORBIDDEN and "exceeded quota" in error.message else "ApplyRefused"
    )
    return Trouble(reason, f"{step.kind} {step.document['metadata']['name']} was refused: {error.message}")


def _asks_something_else(before: Document, now: Document | None) -> bool:
    """Whether an agent was changed, in more than its status."""
    if now is None:
        return True
    one, other = ({**each["metadata"], "resourceVersion": None} for each in (before, now))
    return one != other or before.get("spec") != now.get("spec")


def _again(status: Document, hindrances: Sequence[Trouble], wanted: Sequence[Document]) -> float | None:
    """After how many seconds to look at what no watch tells us of, or None."""
    if any(hindrance.reason in UNWATCHED_CAUSES for hindrance in hindrances):
        return LOOK_AGAIN_SECONDS
    makes_secrets = any(each["kind"] == SECRET.kind for each in wanted)
    secrets = look_again_seconds(serving=is_ready(status)) if makes_secrets else None
    outage = seconds_until_degraded(status, datetime.now(UTC))
    return min((seconds for seconds in (secrets, outage) if seconds is not None), default=None)
