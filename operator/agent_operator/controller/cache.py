"""What is in the cluster, as last heard: fed by watch events, by lists, and by the answers to our own writes."""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from agent_operator.api.agent import KIND
from agent_operator.controller.drift import shares
from agent_operator.controller.resources import AGENT, BY_KIND, POD, Key
from agent_operator.manifests.form import Document
from agent_operator.manifests.labels import INSTANCE

Place = tuple[str, str, str]  # kind, namespace, name
Conditions = frozenset[tuple[str, str]]  # type, status


class Standing(NamedTuple):
    """What an agent's status says of it, as far as it is told in metrics."""

    conditions: Conditions
    ready_pods: int


_NONE = Standing(frozenset(), 0)


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


@dataclass(frozen=True, slots=True)
class _Entry:
    """One object, packed: as dictionaries a thousand agents would take 100 MB, and the garbage collector seconds."""

    version: int
    agent: Key | None
    packed: bytes
    standing: Standing

    def document(self) -> Document:
        document: Document = json.loads(self.packed)
        return document


class Cache:
    """Objects by kind, namespace and name. Every change tells which agent it concerns, or None if it was no news.

    An event can be late, and older than the answer to a write of ours: the higher resourceVersion wins (a number that
    grows with each write; Kubernetes 1.35 made comparing them part of the API).
    """

    def __init__(self) -> None:
        self._objects: dict[Place, _Entry] = {}
        self._by_agent: defaultdict[Key, set[Place]] = defaultdict(set)

    def store(self, kind: str, document: Document) -> Key | None:
        """Take in the object as it is now."""
        place = _place(kind, document)
        known = self._objects.get(place)
        version = int(document["metadata"]["resourceVersion"])
        if known is not None and version <= known.version:
            return None
        self._forget(place)
        entry = _Entry(version, agent_of(kind, document), _packed(kind, document), _standing(kind, document))
        self._objects[place] = entry
        if entry.agent is not None:
            self._by_agent[entry.agent].add(place)
        return entry.agent

    def remove(self, kind: str, document: Document) -> Key | None:
        """Take in that the object is gone, unless another of that name has come since."""
        place = _place(kind, document)
        known = self._objects.get(place)
        if known is None or int(document["metadata"]["resourceVersion"]) < known.version:
            return None
        self._forget(place)
        return known.agent

    def replace(self, kind: str, namespace: str | None, documents: Iterable[Document], version: str) -> set[Key]:
        """Take in a whole list, made at resourceVersion `version`: also what is not in it any more, and was missed."""
        present = {_place(kind, document): document for document in documents}
        agents = {self.store(kind, document) for document in present.values()}
        for place in [place for place in self._objects if place[0] == kind and namespace in {None, place[1]}]:
            known = self._objects[place]
            if place not in present and known.version <= int(version):
                agents.add(known.agent)
                self._forget(place)
        return {agent for agent in agents if agent is not None}

    def get(self, kind: str, namespace: str, name: str) -> Document | None:
        """The object as last heard."""
        entry = self._objects.get((kind, namespace, name))
        return None if entry is None else entry.document()

    def agent(self, key: Key) -> Document | None:
        """The `AgentDeployment` itself."""
        return self.get(AGENT.kind, *key)

    def agents(self) -> list[Key]:
        """All agents."""
        return [Key(place[1], place[2]) for place in self._objects if place[0] == AGENT.kind]

    def standings(self) -> Iterator[tuple[Key, Standing]]:
        """The agents, each with what its status says."""
        return (
            (Key(place[1], place[2]), entry.standing)
            for place, entry in self._objects.items()
            if place[0] == AGENT.kind
        )

    def children(self, key: Key) -> list[tuple[str, Document]]:
        """Kind and document of what belongs to the agent, without its pods."""
        places = [place for place in self._by_agent.get(key, ()) if place[0] not in {AGENT.kind, POD.kind}]
        return [(place[0], self._objects[place].document()) for place in sorted(places)]

    def pods(self, key: Key) -> list[Document]:
        """The agent's pods."""
        places = [place for place in self._by_agent.get(key, ()) if place[0] == POD.kind]
        return [self._objects[place].document() for place in sorted(places)]

    def _forget(self, place: Place) -> None:
        known = self._objects.pop(place, None)
        if known is not None and known.agent is not None:
            self._by_agent[known.agent].discard(place)
            if not self._by_agent[known.agent]:
                del self._by_agent[known.agent]


def _place(kind: str, document: Document) -> Place:
    metadata = document["metadata"]
    return kind, metadata["namespace"], metadata["name"]


def _packed(kind: str, document: Document) -> bytes:
    return json.dumps(_slim(kind, document), separators=(",", ":")).encode()


def _standing(kind: str, document: Document) -> Standing:
    if kind != AGENT.kind:
        return _NONE
    status = document.get("status", {})
    # Interned, as thousands of agents have the same few.
    conditions = frozenset(
        (sys.intern(each["type"]), sys.intern(each.get("status", ""))) for each in status.get("conditions") or []
    )
    return Standing(conditions, status.get("readyReplicas", 0))


def _slim(kind: str, document: Document) -> Document:
    """The object without what nobody here reads; of a pod, only who it is and how it fares."""
    metadata = {key: value for key, value in document["metadata"].items() if key != "managedFields"}
    if kind in BY_KIND and kind not in {POD.kind, AGENT.kind}:
        metadata["managedFields"] = shares(kind, document)
    if kind == POD.kind:
        return {"metadata": metadata, "status": document.get("status", {})}
    return {**document, "metadata": metadata}
