"""Leader election among operators of one scope by a Lease (Kubernetes: "Leases"), as in client-go's leaderelection.

Decisions are separate from requests. Clocks of other machines are ignored: a Lease has expired when its record has not
changed for its duration by the local monotonic clock, regardless of the times in the record.
"""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple

import structlog

from agent_operator.controller.lease import LEASE, LeaseName, lease_metadata, new_identity, own_pod
from agent_operator.kube.connection import Connection
from agent_operator.kube.errors import ApiError, UnreachableError
from agent_operator.manifests.document import Document

log = structlog.get_logger(__name__)


class LostLeadershipError(Exception):
    """Another operator leads, or may lead. The message explains why."""


class NoLeaseError(Exception):
    """The operator lacks permission to use the Lease, or the Lease's namespace does not exist."""


@dataclass(frozen=True)
class Timing:
    """Durations in seconds, with client-go's defaults.

    `lease` is how long other operators wait for a leader, `renew` how long a leader tries to renew, and `retry` the
    interval between attempts. A leader sends nothing after `renew`, and other operators start after `lease`: requests
    in flight have the difference to complete.
    """

    lease: float = 15.0
    renew: float = 10.0
    retry: float = 2.0


class Observation(NamedTuple):
    """A Lease's record (its spec), and since when it has been unchanged by the local monotonic clock."""

    record: Mapping[str, Any]
    since: float


def observe(before: Observation | None, record: Mapping[str, Any], now: float) -> Observation:
    """Return the observation of the current record; an unchanged record keeps its time."""
    return before if before is not None and before.record == record else Observation(record, now)


def may_take(seen: Observation, identity: str, now: float, default_duration: float) -> bool:
    """Return whether `identity` may take the Lease: it holds it, the Lease has no holder, or it has expired."""
    holder = seen.record.get("holderIdentity")
    if not holder or holder == identity:
        return True
    return now >= seen.since + (seen.record.get("leaseDurationSeconds") or default_duration)


def taken(record: Mapping[str, Any], identity: str, duration: float, clock: datetime) -> Document:
    """Return the record with which `identity` takes or renews the Lease."""
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


class Elector:
    """Acquires the Lease and holds it. `connection` is not shared, so that other requests cannot delay a renewal.

    A pod that holds the Lease also owns it, and the garbage collector deletes the Lease after the pod. An operator may
    be unable to release the Lease, because `helm uninstall` removes its permissions first. Even then it leaves no Lease
    that the next operator has to wait for.
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
        """Whether this operator leads: it holds the Lease, as last observed, and renewed it in time.

        No other operator can lead while this is true.
        """
        if self._renewed_at is None or self._holder() != self.identity:
            return False
        return time.monotonic() < self._renewed_at + self._timing.renew

    async def acquire(self) -> None:
        """Wait until this operator leads. Raises NoLeaseError."""
        logged: str | None = None
        while not await self._try(waiting=True):
            holder = self._holder()
            if holder and holder != logged:
                log.info("Waited to lead", namespace=self._namespace, name=self._name, leader=holder)
                logged = holder
            await self._pause()
        log.info("Began to lead", namespace=self._namespace, name=self._name, identity=self.identity)

    async def hold(self) -> None:
        """Renew the Lease until cancelled. Raises LostLeadershipError."""
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
        """Release the Lease if this operator holds it, so that another one need not wait until it expires."""
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
                holder = self._holder()
                state = f"was taken by {holder}" if holder else "has no holder"
                raise LostLeadershipError(f"The Lease {self._namespace}/{self._name} {state}")
            await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(self._timing.retry * random.uniform(1.0, 1.2))  # noqa: S311  spread, not secrecy

    def _holder(self) -> str | None:
        return self._seen.record.get("holderIdentity") if self._seen is not None else None

    async def _try(self, *, waiting: bool) -> bool:
        """Take or renew the Lease if allowed, and return whether it was written. Raises NoLeaseError if `waiting`."""
        # Taken before the request: the response may be late, and for other operators the time starts with the write.
        began = time.monotonic()
        try:
            written = await self._write_if_allowed()
        except (ApiError, UnreachableError) as error:
            self._lease = None
            if self._pod is not None and isinstance(error, ApiError) and error.code == HTTPStatus.FORBIDDEN:
                # The admission plugin OwnerReferencesPermissionEnforcement (enabled in OpenShift) requires permission
                # to delete the Lease, which the roles of earlier charts lack.
                self._pod = None
                log.warning(
                    "Lacked permission to own the Lease",
                    namespace=self._namespace,
                    name=self._name,
                    error=str(error),
                )
                return False
            if waiting and isinstance(error, ApiError) and error.code in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
                raise NoLeaseError(f"The Lease {self._namespace}/{self._name} cannot be acquired: {error}") from error
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
            # Another operator wrote the Lease. A leader has to know at once who leads now.
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
            "metadata": lease_metadata({"name": self._name, "namespace": self._namespace}, self._pod),
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
        """Write the record if the Lease is unchanged: the request carries the known resourceVersion."""
        path = LEASE.path(self._namespace, self._name)
        lease = self._lease or {}
        body = {**lease, "metadata": lease_metadata(lease.get("metadata", {}), self._pod), "spec": record}
        self._lease = self._keep((await self._connection.request("PUT", path, body=body)).body)

    def _keep(self, lease: Document) -> Document:
        lease = {**lease, "spec": lease.get("spec") or {}}
        self._seen = observe(self._seen, lease["spec"], time.monotonic())
        return lease

    def _complain(self, error: Exception) -> None:
        """Log the error once until it changes: attempts repeat every two seconds."""
        if str(error) != self._problem:
            self._problem = str(error)
            log.warning(
                "Could not take or renew the Lease", namespace=self._namespace, name=self._name, error=self._problem
            )
