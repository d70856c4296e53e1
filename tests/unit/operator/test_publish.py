"""What users see if the status of an agent cannot be written."""

from typing import Any, cast

import pytest

from agent_operator.api.bounds import UNREADABLE
from agent_operator.controller.reconcile.apply import Cluster
from agent_operator.controller.reconcile.publish import Publisher
from agent_operator.kube.cache import Cache
from agent_operator.kube.errors import ApiError, UnreachableError
from agent_operator.kube.resources import Key

METADATA = {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1"}
DEEP: dict[str, Any] = {"metadata": METADATA, UNREADABLE: [["spec.affinity", "is too deep"]]}
STATUS = {"conditions": [{"type": "Degraded", "status": "True", "reason": "InvalidSpec", "message": "m"}]}


class Refusing:
    """A cluster that answers a status write with an error, and accepts Events."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.events: list[str] = []

    async def write_status(self, *_: object) -> None:
        raise self.error

    async def post_event(self, _: object, kind: str, reason: str, message: str) -> None:
        self.events.append(f"{kind} {reason} {message}")


def publisher(cluster: Refusing) -> Publisher:
    return Publisher(cast("Cluster", cluster), Cache())


@pytest.mark.parametrize("error", [ApiError(500, "", "max depth"), ApiError(422, "Invalid", ""), UnreachableError("")])
async def test_an_agent_beyond_bounds_is_reported_by_one_event_instead_of_its_status(error: Exception) -> None:
    cluster = Refusing(error)
    publishing = publisher(cluster)

    await publishing.publish(DEEP, STATUS)
    await publishing.publish(DEEP, STATUS)

    assert cluster.events == ["Warning InvalidSpec m"]
    publishing.forget(Key("n", "a"))
    await publishing.publish(DEEP, STATUS)
    assert len(cluster.events) == 2


@pytest.mark.parametrize("error", [ApiError(409, "Conflict", ""), ApiError(429, "", ""), ApiError(403, "", "")])
async def test_an_error_that_is_not_the_fault_of_the_object_is_retried(error: Exception) -> None:
    cluster = Refusing(error)

    with pytest.raises(ApiError):
        await publisher(cluster).publish(DEEP, STATUS)

    assert cluster.events == []


async def test_a_failure_for_any_other_agent_is_retried() -> None:
    cluster = Refusing(ApiError(500, "", "away"))

    with pytest.raises(ApiError):
        await publisher(cluster).publish({"metadata": METADATA}, STATUS)

    assert cluster.events == []
