"""What is in the cluster, as last heard: fed by watch events, by lists, and by the answers to our own writes."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from agent_operator.api.agent import KIND
from agent_operator.controller.resources import AGENT, POD, Key
from agent_operator.manifests.form import Document
from agent_operator.manifests.labels import INSTANCE

Place = tuple[str, str, str]  # kind, namespace, name


def controller_of(document: Document) -> Document | None:
    """The owner reference of the object's controller, if it has one (Kubernetes: "Owners and Dependents")."""
    references = document["metadata"].get("ownerReferences") or []
    return next((reference for reference in references if reference.get("controller")), None)


def agent_of(kind: str, document: Document) -> Key | None:
    """The agent that an object belongs to or is, if any."""
    metadata = document["metadata"]
    if kind == AGENT.kind:
        return Key(metadata["namespace"], metadata["name"])
    owner = controller_of(document)
    if owner is not None and owner.get("kind") == KIND:
        return Key(metadata["namespace"], owner["name"])
    instance = (metadata.get("labels") or {}).get(INSTANCE)
    return Key(metadata["namespace"], instance) if instance else None


class Cache:
    """Objects by kind, namespace and name. Every change tells which agent it concerns, or None if it was no news.

    An event can be late, and older than the answer to a write of ours: the higher resourceVersion wins (a number that
    grows with each write; Kubernetes 1.35 made comparing them part of the API).
    """

    def __init__(self) -> None:
        self._objects: dict[Place, Document] = {}
        self._by_agent: defaultdict[Key, set[Place]] = defaultdict(set)

    def store(self, kind: str, document: Document) -> Key | None:
        """Take in the object as it is now."""
        place = _place(kind, document)
        known = self._objects.get(place)
        if known is not None and _version(document) <= _version(known):
            return None
        self._forget(place)
        self._objects[place] = _slim(kind, document)
        agent = agent_of(kind, document)
        if agent is not None:
            self._by_agent[agent].add(place)
        return agent

    def remove(self, kind: str, document: Document) -> Key | None:
        """Take in that the object is gone, unless another of that name has come since."""
        place = _place(kind, document)
        known = self._objects.get(place)
        if known is None or _version(document) < _version(known):
            return None
        self._forget(place)
        return agent_of(kind, known)

    def replace(self, kind: str, namespace: str | None, documents: Iterable[Document], version: str) -> set[Key]:
        """Take in a whole list, made at resourceVersion `version`: also what is not in it any more, and was missed."""
        present = {_place(kind, document): document for document in documents}
        agents = {self.store(kind, document) for document in present.values()}
        for place in [place for place in self._objects if place[0] == kind and namespace in {None, place[1]}]:
            if place not in present and _version(self._objects[place]) <= int(version):
                agents.add(agent_of(kind, self._objects[place]))
                self._forget(place)
        return {agent for agent in agents if agent is not None}

    def get(self, kind: str, namespace: str, name: str) -> Document | None:
        """The object as last heard."""
        return self._objects.get((kind, namespace, name))

    def agent(self, key: Key) -> Document | None:
        """The `AgentDeployment` itself."""
        return self.get(AGENT.kind, *key)

    def agents(self) -> Iterator[Document]:
        """All of them."""
        return (document for place, document in self._objects.items() if place[0] == AGENT.kind)

    def children(self, key: Key) -> list[tuple[str, Document]]:
        """Kind and document of what belongs to the agent, without its pods."""
        places = self._by_agent.get(key, set())
        return [(place[0], self._objects[place]) for place in sorted(places) if place[0] not in {AGENT.kind, POD.kind}]

    def pods(self, key: Key) -> list[Document]:
        """The agent's pods."""
        return [self._objects[place] for place in sorted(self._by_agent.get(key, set())) if place[0] == POD.kind]

    def _forget(self, place: Place) -> None:
        known = self._objects.pop(place, None)
        agent = agent_of(place[0], known) if known is not None else None
        if agent is not None:
            self._by_agent[agent].discard(place)
            if not self._by_agent[agent]:
                del self._by_agent[agent]


def _place(kind: str, document: Document) -> Place:
    metadata = document["metadata"]
    return kind, metadata["namespace"], metadata["name"]


def _version(document: Document) -> int:
    return int(document["metadata"]["resourceVersion"])


def _slim(kind: str, document: Document) -> Document:
    """The object without what nobody here reads; of a pod, only who it is and how it fares."""
    metadata = {key: value for key, value in document["metadata"].items() if key != "managedFields"}
    if kind == POD.kind:
        return {"metadata": metadata, "status": document.get("status", {})}
    return {**document, "metadata": metadata}
