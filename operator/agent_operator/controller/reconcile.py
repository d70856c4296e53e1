"""One agent's way: gather what is there, decide, apply, tell. Idempotent: any number of times, from any state."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from agent_operator.api.agent import InvalidAgentError, parse
from agent_operator.controller.apply import Cluster
from agent_operator.controller.cache import Cache
from agent_operator.controller.connection import ApiError, UnreachableError
from agent_operator.controller.metrics import Metrics
from agent_operator.controller.plan import Apply, Name, Owner, Plan, make_plan, with_owner
from agent_operator.controller.pods import Trouble
from agent_operator.controller.resources import AGENT, BY_KIND, SECRET, Key
from agent_operator.controller.status import Observation, condition, same, status_of, status_of_invalid
from agent_operator.manifests import desired
from agent_operator.manifests.form import Document
from agent_operator.manifests.names import SECRETS_VOLUME

log = structlog.get_logger(__name__)

# What the pods need is there before the pods are; what scales them comes after.
STAGES = ({"ConfigMap", "Secret", "Service"}, {"Deployment"}, {"HorizontalPodAutoscaler"})

# How soon to look again at what no watch tells us of: an object that is in our way, or a Secret that pods wait for.
LOOK_AGAIN_SECONDS = 10.0
# What is refused for another cause waits for a change of the agent, or for the next list of everything.
UNWATCHED_CAUSES = {"NameConflict", "QuotaExceeded"}

FORBIDDEN = 403


@dataclass(frozen=True)
class _Verified:
    """Our Secret as it was applied, and when it was last seen to be so."""

    document: Document
    at: float


class Reconciler:
    """Brings the objects of agents in line with their specs."""

    def __init__(self, cluster: Cluster, cache: Cache, metrics: Metrics) -> None:
        self._cluster = cluster
        self._cache = cache
        self._metrics = metrics
        self._secrets: dict[Key, _Verified] = {}

    def doubt_secrets(self) -> None:
        """Look at every Secret again at the next chance, as nothing tells us of changes to them."""
        self._secrets.clear()

    async def reconcile(self, key: Key) -> float | None:
        """Bring one agent in line. Gives after how many seconds to look again, or None to wait for a change.

        Raises what passes by itself (the API server busy or away), for the caller to try again.
        """
        document = self._cache.agent(key)
        if document is None or "deletionTimestamp" in document["metadata"]:
            self._secrets.pop(key, None)
            return None
        with self._metrics.duration.time():
            try:
                result, again = await self._bring_in_line(key, document)
            except Exception:
                self._metrics.reconciles.labels("error").inc()
                raise
        self._metrics.reconciles.labels(result).inc()
        return again

    async def _bring_in_line(self, key: Key, document: Document) -> tuple[str, float | None]:
        try:
            agent = parse(document)
        except InvalidAgentError as error:
            metadata = document["metadata"]
            faults = [str(fault) for fault in error.faults]
            old = document.get("status", {})
            await self._tell(document, status_of_invalid(metadata["generation"], faults, old, datetime.now(UTC)))
            return "invalid", None
        owner = Owner(agent.name, agent.uid)
        wanted = desired(agent.name, agent.namespace, agent.spec)
        observed = await self._gather(key, owner, wanted)
        if observed is None:
            return "success", None
        plan = make_plan(owner, wanted, observed)
        try:
            hindrances = await self._carry_out(key, plan)
        except _NamespaceEndsError:
            return "success", None
        content = _secret_in(wanted)
        if content is not None and not hindrances:
            self._secrets.setdefault(key, _Verified(with_owner(content, owner), time.monotonic()))
        seen = Observation(self._cache.get("Deployment", *key), self._cache.pods(key), hindrances)
        if seen.deployment is not None and not owner.owns(seen.deployment):
            seen.deployment = None
        status = status_of(agent, seen, document.get("status", {}), datetime.now(UTC))
        await self._tell(document, status)
        blocked = any(hindrance.reason in UNWATCHED_CAUSES for hindrance in hindrances)
        waits = blocked or (key in self._secrets and condition(status, "Ready")["status"] != "True")
        return ("hindered" if hindrances else "success"), (LOOK_AGAIN_SECONDS if waits else None)

    async def _gather(self, key: Key, owner: Owner, wanted: Sequence[Document]) -> dict[Name, Document] | None:
        """Every object that counts for the decision; None when the agent turns out to be gone."""
        observed: dict[Name, Document] = {
            (kind, child["metadata"]["name"]): child for kind, child in self._cache.children(key)
        }
        missing = [(each["kind"], each["metadata"]["name"]) for each in wanted]
        missing = [name for name in missing if name not in observed and name[0] != SECRET.kind]
        # An agent that was never looked at has nothing that could have been taken away.
        known = "status" in (self._cache.agent(key) or {})
        if missing and known and not await self._is_still_there(key, owner.uid):
            return None
        found = await asyncio.gather(*(self._cluster.get(BY_KIND[kind], key.namespace, name) for kind, name in missing))
        observed |= {name: child for name, child in zip(missing, found, strict=True) if child is not None}
        secret = await self._gather_secret(key, owner, wanted, observed)
        return observed | ({(SECRET.kind, key.name): secret} if secret is not None else {})

    async def _is_still_there(self, key: Key, uid: str) -> bool:
        """Whether the agent is, in truth, before we make anything for it: the news of its end may yet come.

        The garbage collector takes the children of a deleted agent one by one; each would seem to be missing.
        """
        live = await self._cluster.get(AGENT, *key)
        return live is not None and live["metadata"]["uid"] == uid and "deletionTimestamp" not in live["metadata"]

    async def _gather_secret(
        self, key: Key, owner: Owner, wanted: Sequence[Document], observed: Mapping[Name, Document]
    ) -> Document | None:
        """The Secret of the agent's name, if the agent has one, or had one until now (its Deployment tells)."""
        content = _secret_in(wanted)
        if content is None:
            self._secrets.pop(key, None)
            deployment = observed.get(("Deployment", key.name))
            superfluous = _mounts(deployment, key.name) and not any(_mounts(each, key.name) for each in wanted)
            return await self._cluster.look_at_secret(*key) if superfluous else None
        verified = self._secrets.get(key)
        if verified is not None and verified.document == with_owner(content, owner) and self._can_trust(key, verified):
            return verified.document
        self._secrets.pop(key, None)
        return await self._cluster.look_at_secret(*key)

    def _can_trust(self, key: Key, verified: _Verified) -> bool:
        """Whether a Secret need not be looked at again: its agent serves, or it was looked at just now."""
        status = (self._cache.agent(key) or {}).get("status", {})
        serves = condition(status, "Ready").get("status") == "True"
        return serves or time.monotonic() - verified.at < LOOK_AGAIN_SECONDS

    async def _carry_out(self, key: Key, plan: Plan) -> list[Trouble]:
        """Do what the plan says, and give what could not be done, and will not be until somebody changes something."""
        hindrances = [Trouble("NameConflict", str(conflict)) for conflict in plan.conflicts]
        for step in plan.deletes:
            await self._cluster.delete(key.namespace, step)
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

    async def _apply(self, key: Key, step: Apply) -> None:
        document = await self._cluster.apply(step)
        if step.kind != SECRET.kind:
            self._cache.store(step.kind, document)
        log.info("Applied", namespace=key.namespace, name=key.name, kind=step.kind, operation=step.operation)

    async def _tell(self, document: Document, status: Document) -> None:
        """Write the status if it says anything new, and post an Event where a user should hear of it."""
        old = document.get("status", {})
        if same(old, status):
            return
        key = Key(document["metadata"]["namespace"], document["metadata"]["name"])
        written = await self._cluster.write_status(key, document["metadata"]["uid"], status)
        if written is None:
            return
        self._cache.store(AGENT.kind, written)
        for kind, reason, message in news(old, status):
            log.info("Condition changed", namespace=key.namespace, name=key.name, reason=reason, detail=message)
            try:
                await self._cluster.post_event(document, kind, reason, message)
            except (ApiError, UnreachableError) as error:
                log.warning("Could not post an event", namespace=key.namespace, name=key.name, error=str(error))


def news(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What a user should hear of, as type, reason and message of Events: new trouble, and the end of waiting."""
    degraded, before = condition(new, "Degraded"), condition(old, "Degraded")
    if degraded["status"] == "True" and (before.get("status"), before.get("reason")) != ("True", degraded["reason"]):
        yield "Warning", degraded["reason"], degraded["message"]
    ready = condition(new, "Ready")
    if ready["status"] == "True" and condition(old, "Ready").get("status") != "True":
        yield "Normal", "Ready", ready["message"]


class _NamespaceEndsError(Exception):
    """The whole namespace is being deleted, and the agent with it: there is nothing to do, and nobody to tell."""


def _refusal(step: Apply, error: BaseException) -> Trouble:
    """What to tell of a refused apply. Raises the error again if it passes by itself."""
    if not isinstance(error, ApiError) or error.passing:
        raise error
    if "NamespaceTerminating" in error.causes:
        raise _NamespaceEndsError from error
    reason = "QuotaExceeded" if error.code == FORBIDDEN and "exceeded quota" in error.message else "ApplyRefused"
    return Trouble(reason, f"{step.kind} {step.document['metadata']['name']} was refused: {error.message}")


def _secret_in(documents: Sequence[Document]) -> Document | None:
    return next((each for each in documents if each["kind"] == SECRET.kind), None)


def _mounts(document: Document | None, secret: str) -> bool:
    """Whether the document is a Deployment that mounts the Secret of this name as its secrets."""
    if document is None or document["kind"] != "Deployment":
        return False
    volumes = document["spec"]["template"]["spec"].get("volumes") or []
    return any(
        volume["name"] == SECRETS_VOLUME and (volume.get("secret") or {}).get("secretName") == secret
        for volume in volumes
    )
