"""Many agents, and the same objects that the operator creates for each."""

from collections.abc import Iterable
from datetime import UTC, datetime

from agent_operator.api.agent import API_VERSION, KIND
from agent_operator.api.validation import parse
from agent_operator.controller.reconcile.plan import with_owner
from agent_operator.controller.status.status import Observation, status_of
from agent_operator.kube.owner import Owner
from agent_operator.kube.resources import AGENT, BY_KIND, CHILDREN, POD
from agent_operator.manifests import desired
from bench.operator.api import Api, Document, each

NAMESPACE = "bench"
MANAGER = "portside-bench"


def name_of(number: int) -> str:
    """Return the name of an agent."""
    return f"agent-{number:05}"


def agent(number: int, namespace: str = NAMESPACE) -> Document:
    """Return an agent with autoscaling and all defaults."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name_of(number), "namespace": namespace},
        "spec": {"agent": {"provider": "echo", "systemPrompt": "Be brief."}, "autoscaling": {"enabled": True}},
    }


def objects_of(document: Document) -> list[Document]:
    """Return what the operator would apply for an agent as the API server stores it."""
    read = parse(document)
    owner = Owner(read.name, read.uid)
    return [with_owner(wanted, owner) for wanted in desired(read)]


async def make_namespace(api: Api, name: str = NAMESPACE) -> None:
    """Create a namespace."""
    await api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})


async def create(api: Api, numbers: Iterable[int], namespace: str = NAMESPACE) -> list[Document]:
    """Create agents, several at a time, and return them as stored."""
    made = []

    async def one(number: int) -> None:
        made.append(await api.call("POST", AGENT.path(namespace), agent(number, namespace)))

    await each(numbers, one)
    return made


async def apply_as_operator(api: Api, documents: Iterable[Document]) -> None:
    """Write all that the operator would write, as fast as possible: each agent's objects, and then its status."""

    async def one(wanted: tuple[str, Document]) -> None:
        await api.apply(*wanted, MANAGER)

    await each([request for document in documents for request in _requests(document)], one)


def _requests(document: Document) -> Iterable[tuple[str, Document]]:
    metadata = document["metadata"]
    for wanted in objects_of(document):
        yield BY_KIND[wanted["kind"]].path(metadata["namespace"], wanted["metadata"]["name"]), wanted
    status = status_of(parse(document), Observation(), {}, datetime.now(UTC))
    about = {"name": metadata["name"], "namespace": metadata["namespace"]}
    body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": about, "status": status}
    yield AGENT.path(metadata["namespace"], metadata["name"], "status"), body


async def delete_all(api: Api, namespace: str = NAMESPACE) -> None:
    """Delete every agent of a namespace and, without waiting for the garbage collector, the objects that they own."""
    for resource in (AGENT, *(child for child in CHILDREN if not child.optional), POD):
        await api.call("DELETE", resource.path(namespace) + "?propagationPolicy=Background")
