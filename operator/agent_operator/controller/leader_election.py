"""One leader among operators of the same scope, by a Lease (Kubernetes: "Leases"), as in client-go's leaderelection.

What is decided is apart from what is sent. Clocks of other machines do not count: a Lease is dead when its record has
not changed for its duration by our own monotonic clock, whatever times stand in it.
"""

import asyncio
import hashlib
import os
import random
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from agent_operator.kube import kubeconfig
from agent_operator.kube.connection import Connection
from agent_operator.kube.errors import ApiError, UnreachableError
from agent_operator.kube.resources import Resource
from agent_operator.manifests.document import Document

log = structlog.get_logger(__name__)

LEASE = Resource("Lease", "coordination.k8s.io", "v1", "leases")
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class LostLeadershipError(Exception):
    """Another operator leads now, or may. The message says why."""


class NoLeaseError(Exception):
    """We may not use the Lease, or its namespace does not exist."""


@dataclass(frozen=True)
class Timing:
    """Seconds, client-go's defaults: how long others wait for a leader, how long it tries to renew, and how often.

    What a leader would send after `renew` is not sent, and others begin after `lease`: what is under way has the rest.
    """

    lease: float = 15.0
    renew: float = 10.0
    retry: float = 2.0


class Observation(NamedTuple):
    """A Lease's record (its spec), and since when, by our monotonic clock, it has been the same."""

    record: Mapping[str, Any]
    since: float


def observe(before: Observation | None, record: Mapping[str, Any], now: float) -> Observation:
    """Take in the record as it is now."""
    return before if before is not None and before.record == record else Observation(record, now)


def may_take(seen: Observation, identity: str, now: float, default_duration: float) -> bool:
    """Whether the Lease is ours, nobody's, or dead."""
    holder = seen.record.get("holderIdentity")
    if not holder or holder == identity:
        return True
    return now >= seen.since + (seen.record.get("leaseDurationSeconds") or default_duration)


def taken(record: Mapping[str, Any], identity: str, duration: float, clock: datetime) -> Document:
    """The record with which `identity` takes the Lease, or renews it."""
    now = clock.isoformat(timespec="microseconds").replace("+00:00", "Z")
    same = record.get("holderIdentity") == identity
    transitions = record.get("leaseTransitions") or 0
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": max(1, round(duration)),
        "acquireTime": record["acquireTime"] if same and "acquireTime" in record else now,
        "renewTime": now,
        "leaseTransitions": transitions if same or not record else transitions + 1,
    }


class LeaseName(NamedTuple):
    """Which Lease makes one of several operators the leader."""

    namespace: str
    name: str


def lease(namespace: str | None, name: str | None, namespaces: Sequence[str], selector: str | None) -> LeaseName | None:
    """The Lease as it was asked for, else of our scope and in the pod's namespace; None if there is no pod."""
    place = namespace or own_namespace()
    return LeaseName(place, name or lease_name(namespaces, selector)) if place else None


def lease_name(namespaces: Sequence[str], selector: str | None) -> str:
    """The Lease of all operators that serve the same agents: those with the same namespaces and selector."""
    if not namespaces and not selector:
        return "agent-operator"
    scope = "\n".join([selector or "", *sorted(set(namespaces))])
    return f"agent-operator-{hashlib.sha256(scope.encode()).hexdigest()[:8]}"


def own_namespace() -> str | None:
    """The namespace of the pod that this process runs in, or None elsewhere."""
    try:
        return NAMESPACE_FILE.read_text().strip() or None
    except OSError:
        return None


def new_identity() -> str:
    """Who we are, and nobody else, nor we after a restart."""
    return f"{socket.gethostname()}_{uuid.uuid4().hex[:12]}"


def own_pod(namespace: str) -> Document | None:
    """The owner reference to the pod that we run in, by what the chart sets from the downward API.

    None outside of a pod, and in one of another namespace than `namespace`: an owner in another is taken for missing.
    """
    where, name, uid = (os.environ.get(each) for each in ("POD_NAMESPACE", "POD_NAME", "POD_UID"))
    if where != namespace or not name or not uid:
        return None
    return {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}


def owned_by(metadata: Mapping[str, Any], pod: Document | None) -> Document:
    """The Lease's metadata with this pod as its only owner of that kind, or with none."""
    others = [each for each in metadata.get("ownerReferences") or [] if each.get("kind") != "Pod"]
    return {**metadata, "ownerReferences": others if pod is None else [*others, pod]}


class Elector:
    """Takes the Lease and holds it. `connection` is its own: no queue of other requests may come in its way.

    While a pod holds the Lease it owns it, and the garbage collector deletes the Lease after the pod. An operator that
    cannot release it, as `helm uninstall` removes its rights first, so leaves no Lease that the next has to wait for.
    """

    def __init__(self, connection: Connection, lease: LeaseName, timing: Timing) -> None:
        self._connection = connection
        self._pod = own_pod(lease.namespace)
        self._namespace, self._name = lease
        self._timing = timing
        self._lease: Document | None = None
        self._seen: Observation | None = None
        self._renewed_at: float | None = None
        self._problem: str | None = None
        self.identity = new_identity()

    @property
    def leading(self) -> bool:
        """Whether nobody else can lead now: the Lease is ours, as last seen, and was renewed in time."""
        if self._renewed_at is None or self._holder() != self.identity:
            return False
        return time.monotonic() < self._renewed_at + self._timing.renew

    async def acquire(self) -> None:
        """Wait until we lead. Raises NoLeaseError."""
        told: str | None = None
        while not await self._try(waiting=True):
            holder = self._holder()
            if holder and holder != told:
                log.info("Waited to lead", namespace=self._namespace, name=self._name, leader=holder)
                told = holder
            await self._pause()
        log.info("Began to lead", namespace=self._namespace, name=self._name, identity=self.identity)

    async def hold(self) -> None:
        """Renew the Lease, until cancelled. Raises LostLeadershipError."""
        while self._renewed_at is not None:
            left = self._renewed_at + self._timing.renew - time.monotonic()
            try:
                async with asyncio.timeout(left):
                    await self._renew()
            except TimeoutError:
                raise LostLeadershipError(
                    f"The Lease {self._namespace}/{self._name} could not be renewed for {self._timing.renew:g} s"
                ) from None

    async def release(self) -> None:
        """Let go of the Lease, if we hold it, so that another operator need not wait until it is dead."""
        if not self.leading or self._lease is None:
            return
        record = taken(self._lease["spec"], self.identity, 1, datetime.now(UTC)) | {"holderIdentity": ""}
        try:
            await self._put(record)
        except (ApiError, UnreachableError) as error:
            log.warning("Could not release the Lease", namespace=self._namespace, name=self._name, error=str(error))

    async def _renew(self) -> None:
        await self._pause()
        while not await self._try(waiting=False):
            if self._holder() != self.identity:
                raise LostLeadershipError(
                    f"The Lease {self._namespace}/{self._name} was taken by {self._holder() or 'nobody'}"
                )
            await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(self._timing.retry * random.uniform(1.0, 1.2))  # noqa: S311  spread, not secrecy

    def _holder(self) -> str | None:
        return self._seen.record.get("holderIdentity") if self._seen is not None else None

    async def _try(self, *, waiting: bool) -> bool:
        """Take or renew the Lease if it may be taken; whether that was done. Raises NoLeaseError while `waiting`."""
        # From before it is sent: the answer may be late, and for others the time runs from when the Lease was written.
        began = time.monotonic()
        try:
            written = await self._write_if_allowed()
        except (ApiError, UnreachableError) as error:
            self._lease = None
            if self._pod is not None and isinstance(error, ApiError) and error.code == HTTPStatus.FORBIDDEN:
                # The admission plugin OwnerReferencesPermissionEnforcement (on in OpenShift) wants the right to delete
                # the Lease, which the roles of earlier charts lack.
                self._pod = None
                log.warning("May not own the Lease", namespace=self._namespace, name=self._name, error=str(error))
                return False
            if waiting and isinstance(error, ApiError) and error.code in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
                raise NoLeaseError(f"The Lease {self._namespace}/{self._name} cannot be had: {error}") from error
            self._complain(error)
            return False
        if written:
            self._renewed_at, self._problem = began, None
        return written

    async def _write_if_allowed(self) -> bool:
        if self._lease is None or self._holder() != self.identity:
            self._lease = await self._read()
        if self._lease is None:
            return await self._create()
        if self._seen is None or not may_take(self._seen, self.identity, time.monotonic(), self._timing.lease):
            return False
        try:
            await self._put(taken(self._lease["spec"], self.identity, self._timing.lease, datetime.now(UTC)))
        except ApiError as error:
            if error.code not in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}:
                raise
            # Somebody else wrote. A leader has to know at once who leads now.
            self._lease = await self._read()
            return False
        return True

    async def _read(self) -> Document | None:
        try:
            return self._keep((await self._connection.request("GET", LEASE.path(self._namespace, self._name))).body)
        except ApiError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return None

    async def _create(self) -> bool:
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": owned_by({"name": self._name, "namespace": self._namespace}, self._pod),
            "spec": taken({}, self.identity, self._timing.lease, datetime.now(UTC)),
        }
        try:
            answer = await self._connection.request("POST", LEASE.path(self._namespace), body=lease)
        except ApiError as error:
            if error.code != HTTPStatus.CONFLICT:
                raise
            self._lease = await self._read()
            return False
        self._lease = self._keep(answer.body)
        return True

    async def _put(self, record: Document) -> None:
        """Write the record, if the Lease is still as we know it: its resourceVersion goes with it."""
        path = LEASE.path(self._namespace, self._name)
        lease = self._lease or {}
        body = {**lease, "metadata": owned_by(lease.get("metadata", {}), self._pod), "spec": record}
        self._lease = self._keep((await self._connection.request("PUT", path, body=body)).body)

    def _keep(self, lease: Document) -> Document:
        lease = {**lease, "spec": lease.get("spec") or {}}
        self._seen = observe(self._seen, lease["spec"], time.monotonic())
        return lease

    def _complain(self, error: Exception) -> None:
        """Once for as long as it stays the same: a try follows the other every two seconds."""
        if str(error) != self._problem:
            self._problem = str(error)
            log.warning(
                "Could not take or renew the Lease", namespace=self._namespace, name=self._name, error=self._problem
            )


def in_a_pod() -> bool:
    """Whether the process runs in a pod and talks to that pod's cluster."""
    return kubeconfig.in_cluster()
