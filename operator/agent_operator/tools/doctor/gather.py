"""Gathering of the evidence about one agent, within the user's permissions. Secrets are only checked for existence."""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote

from agent_operator.api.validation import InvalidAgentError, parse
from agent_operator.controller.lease import LEASE, LEASE_LABEL
from agent_operator.controller.reconcile.server_references import References, Resolved
from agent_operator.kube.errors import ApiError, UnreachableError
from agent_operator.kube.resources import (
    AGENT,
    AGENT_CLASS,
    BY_KIND,
    CHILDREN,
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    POD,
    SECRET,
    Resource,
)
from agent_operator.manifests import desired
from agent_operator.manifests.document import Document
from agent_operator.manifests.labels import INSTANCE, NAME, PRODUCT
from agent_operator.manifests.names import CONTAINER, CONTAINER_PORT
from agent_operator.tools.cluster import Access
from agent_operator.tools.doctor.evidence import COMPONENT, Evidence, Health, Lease, Reference, references
from agent_operator.tools.live_classes import UNKNOWN, applied, in_cluster

T = TypeVar("T")

SLICES = Resource("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices")
REPLICA_SETS = Resource("ReplicaSet", "apps", "v1", "replicasets")
# Namespace and name.
_Key = tuple[str, str]

# How operators before 0.2 named their Leases, which had no label then.
_OLD_LEASE_NAME = "agent-operator"

# A holder renews about every two seconds, so a live Lease changes within this time, whatever the clocks show.
SECOND_READ_SECONDS = 5.0
# A pod that does not respond within this time would also fail its probe.
POD_SECONDS = 5.0
# Pods of one agent usually have the same problem.
PODS_ASKED = 3


async def operators(access: Access) -> tuple[list[Lease], str | None]:
    """Return the Leases of operators in all namespaces, and the reason if they could not be read."""
    try:
        leases = await _leases(access)
        now = datetime.now(UTC)
        fresh = {_key(each) for each in leases if _age(each, now) < _duration(each) and await _has_pod(access, each)}
        alive = {_key(each) for each in leases if _holder(each)} & (fresh | await _renewed(access, leases, fresh))
    except ApiError as error:
        return [], error.message
    return [_lease(each, now, alive=_key(each) in alive) for each in leases], None


async def _renewed(access: Access, leases: Iterable[Document], fresh: set[_Key]) -> set[_Key]:
    """Return the keys of the leases that are renewed while this function waits; without waiting if all are fresh.

    Clocks differ, and an operator may run outside the cluster: then only a renewal shows that it is alive.
    """
    times = {_key(each): each["spec"].get("renewTime") for each in leases if _key(each) not in fresh}
    if not times:
        return set()
    await asyncio.sleep(SECOND_READ_SECONDS)
    later = {_key(each): each["spec"].get("renewTime") for each in await _leases(access)}
    return {key for key, time in times.items() if key in later and later[key] != time}


async def _leases(access: Access) -> list[Document]:
    # Every node has its own Lease in that namespace.
    found = await access.list(LEASE, None, fieldSelector="metadata.namespace!=kube-node-lease")
    return [{**each, "spec": each.get("spec") or {}} for each in found if _is_of_an_operator(each)]


def _is_of_an_operator(lease: Document) -> bool:
    labels = lease["metadata"].get("labels") or {}
    return labels.items() >= LEASE_LABEL.items() or f"{_key(lease)[1]}-".startswith(f"{_OLD_LEASE_NAME}-")


async def _has_pod(access: Access, lease: Document) -> bool:
    """Return whether the holder's pod exists; True if that is unknown.

    An identity begins with the pod's name (controller/lease.py).
    """
    name = _holder(lease).rpartition("_")[0]
    if not name:
        return True
    try:
        return await access.get(POD, _key(lease)[0], name, metadata_only=True) is not None
    except ApiError:
        return True


def _key(lease: Document) -> _Key:
    return lease["metadata"]["namespace"], lease["metadata"]["name"]


def _holder(lease: Document) -> str:
    return str(lease["spec"].get("holderIdentity") or "")


def _duration(lease: Document) -> float:
    return float(lease["spec"].get("leaseDurationSeconds") or 0)


def _age(lease: Document, now: datetime) -> float:
    text = lease["spec"].get("renewTime")
    return (now - datetime.fromisoformat(text)).total_seconds() if text else float("inf")


def _lease(lease: Document, now: datetime, *, alive: bool) -> Lease:
    return Lease(*_key(lease), _holder(lease), _age(lease, now), alive)


async def is_defined(access: Access) -> bool:
    """Return whether the cluster serves AgentDeployments."""
    return await access.is_served(AGENT)


async def gather(access: Access, agent: Document, leases: Sequence[Lease], unseen: str | None) -> Evidence:
    """Return all evidence that can be read about the agent with this document. Raises UnreachableError."""
    metadata = agent["metadata"]
    evidence = Evidence(metadata["namespace"], metadata["name"], agent=agent, leases=list(leases))
    if unseen is not None:
        evidence.unseen["leases"] = unseen
    await _Gathering(access, evidence).run()
    return evidence


class _Gathering:
    """The gathering of one agent's evidence."""

    def __init__(self, access: Access, evidence: Evidence) -> None:
        self._access = access
        self._evidence = evidence

    async def run(self) -> None:
        evidence = self._evidence
        instance = f"{INSTANCE}={evidence.name},{NAME}={PRODUCT}"
        service = f"kubernetes.io/service-name={evidence.name}"
        await self._objects(instance)
        evidence.pods, sets, evidence.slices = await asyncio.gather(
            self._list(POD, instance), self._list(REPLICA_SETS, instance), self._list(SLICES, service)
        )
        await asyncio.gather(self._references(), self._events(sets), self._health())

    async def _seen(self, topic: str, asking: Awaitable[T], otherwise: T) -> T:
        """Return the result, or record the error and return `otherwise`. Raises ApiError if credentials are refused.

        Refused credentials are refused for every request.
        """
        try:
            return await asking
        except ApiError as error:
            if error.code == HTTPStatus.UNAUTHORIZED:
                raise
            self._evidence.unseen.setdefault(topic, error.message)
            return otherwise

    async def _list(self, resource: Resource, selector: str) -> list[Document]:
        asking = self._access.list(resource, self._evidence.namespace, labelSelector=selector)
        return await self._seen(resource.plural, asking, [])

    async def _objects(self, instance: str) -> None:
        evidence = self._evidence
        await self._resolve()
        wanted = desired(evidence.resolved) if evidence.resolved is not None else []
        optional = [each for each in CHILDREN if each.optional]
        served = await asyncio.gather(
            *(self._seen(each.plural, self._access.is_served(each), False) for each in optional)
        )
        evidence.unserved = {each.kind for each, there in zip(optional, served, strict=True) if not there}
        kinds = [each for each in CHILDREN if each is not SECRET and each.kind not in evidence.unserved]
        lists = await asyncio.gather(*(self._list(each, instance) for each in kinds))
        found = {(each["kind"], each["metadata"]["name"]): each for documents in lists for each in documents}
        names = [(each["kind"], each["metadata"]["name"]) for each in wanted if each["kind"] not in evidence.unserved]
        names = [name for name in names if name not in found]
        got = await asyncio.gather(*(self._get(BY_KIND[kind], name) for kind, name in names))
        found |= {name: document for name, document in zip(names, got, strict=True) if document is not None}
        evidence.objects = found

    async def _resolve(self) -> None:
        """Read the agent with its class and the addresses that its tools refer to; leave out an invalid agent."""
        try:
            document = self._evidence.agent or {}
            agent = parse(document)
        except InvalidAgentError:
            return
        resolving = References(self._access).resolve(agent, document.get("status") or {})
        resolved = (await self._seen("tools", resolving, Resolved(agent))).agent
        classes = await self._seen(AGENT_CLASS.plural, in_cluster(self._access), None)
        with_class = applied(resolved, classes, document.get("status") or {})
        self._evidence.resolved, self._evidence.class_refusal = with_class.agent, with_class.refusal
        if with_class.refusal is not None and with_class.refusal.reason == UNKNOWN:
            self._evidence.unseen.setdefault(AGENT_CLASS.plural, with_class.refusal.sentence)

    async def _get(self, resource: Resource, name: str) -> Document | None:
        """Return the object; of a Secret only its metadata."""
        asking = self._access.get(resource, self._evidence.namespace, name, metadata_only=resource is SECRET)
        found = await self._seen(resource.plural, asking, None)
        return None if found is None else {**found, "kind": resource.kind}

    async def _references(self) -> None:
        evidence = self._evidence
        deployments = [each for (kind, _), each in evidence.objects.items() if kind == DEPLOYMENT.kind]
        needed = [each for deployment in deployments for each in references(deployment["spec"]["template"])]
        # Only objects that are certainly missing. Without permission to check, the pods' Events show the problem.
        there = await asyncio.gather(*(self._is_there(each) for each in needed))
        evidence.missing = list(
            dict.fromkeys(each for each, found in zip(needed, there, strict=True) if found is False)
        )

    async def _is_there(self, reference: Reference) -> bool | None:
        resource = SECRET if reference.kind == SECRET.kind else CONFIG_MAP
        asking = self._access.get(resource, self._evidence.namespace, reference.name, metadata_only=True)
        found: Document | bool | None = await self._seen(resource.plural, asking, True)
        return found is not None

    async def _events(self, sets: Iterable[Document]) -> None:
        evidence = self._evidence
        unready = [pod["metadata"]["name"] for pod in evidence.pods if not is_ready(pod)][:PODS_ASKED]
        names = {evidence.name, *(name for _, name in evidence.objects), *unready}
        names |= {each["metadata"]["name"] for each in sets if (each.get("spec") or {}).get("replicas")}
        selectors = [f"involvedObject.name={name}" for name in sorted(names)]
        lists = await asyncio.gather(
            *(
                self._seen("events", self._access.list(EVENT, evidence.namespace, fieldSelector=each), [])
                for each in selectors
            )
        )
        evidence.events = [event for events in lists for event in events]

    async def _health(self) -> None:
        running = [
            pod
            for pod in self._evidence.pods
            if pod["status"].get("podIP")
            and (pod["metadata"].get("labels") or {}).get(COMPONENT) == "api"
            and _runs(pod)
        ]
        asked = sorted(running, key=is_ready)[:PODS_ASKED]
        answers = await asyncio.gather(*(self._ask(pod["metadata"]["name"]) for pod in asked))
        self._evidence.health = {pod["metadata"]["name"]: answer for pod, answer in zip(asked, answers, strict=True)}

    async def _ask(self, pod: str) -> Health:
        ready, components = await asyncio.gather(self._answer(pod, "health/ready"), self._answer(pod, "health"))
        return Health(ready, components)

    async def _answer(self, pod: str, path: str) -> Document | None:
        """Return the pod's own response through the API server, whatever the code; None if there is no response."""
        place = f"/api/v1/namespaces/{quote(self._evidence.namespace)}/pods/{quote(pod)}:{CONTAINER_PORT}/proxy/{path}"
        try:
            async with asyncio.timeout(POD_SECONDS):
                return await self._access.read(place)
        except (TimeoutError, UnreachableError):
            return None
        except ApiError as error:
            if error.body.get("kind") == "Status" or not error.body:
                self._evidence.unseen.setdefault("health", error.message)
                return None
            return error.body


def _runs(pod: Document) -> bool:
    """Return whether the agent's container runs; it waits for the containers that start before it."""
    statuses = pod["status"].get("containerStatuses") or []
    return any(each["name"] == CONTAINER and "running" in each.get("state", {}) for each in statuses)


def is_ready(pod: Document) -> bool:
    """Return whether the pod receives requests."""
    conditions = pod["status"].get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
