"""A cache of the objects in the cluster, fed by watch events, by lists, and by the responses to our own writes."""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from typing import NamedTuple

from agent_operator.api.agent import KIND
from agent_operator.api.bounds import UNREADABLE
from agent_operator.kube.drift import shares
from agent_operator.kube.resources import AGENT, AGENT_CLASS, POD, Key
from agent_operator.manifests.document import Document
from agent_operator.manifests.labels import INSTANCE
from agent_operator.manifests.names import ANNOTATION_PREFIX

# Size in bytes up to which an object is kept whole: ten times the usual size. A larger object is kept as a summary and
# read when needed, so that memory does not grow with what one tenant stores.
MAX_KEPT = 1 << 16
# Metadata fields kept for agents and pods, besides Portside's annotations. Other fields may contain anything.
METADATA = ("name", "namespace", "uid", "resourceVersion", "generation", "deletionTimestamp", "labels")

ObjectKey = tuple[str, str, str]  # kind, namespace, name
Conditions = frozenset[tuple[str, str]]  # type, status


class AgentState(NamedTuple):
    """The part of an agent's status that is reported in metrics."""

    conditions: Conditions
    ready_pods: int


_NONE = AgentState(frozenset(), 0)


def controller_of(document: Document) -> Document | None:
    """Return the owner reference of the object's controller, if it has one (Kubernetes: "Owners and Dependents")."""
    references = document["metadata"].get("ownerReferences") or []
    return next((reference for reference in references if reference.get("controller")), None)


def agent_of(kind: str, document: Document) -> Key | None:
    """Return the key of the agent that an object is or belongs to, if any."""
    metadata = document["metadata"]
    if kind == AGENT_CLASS.kind:
        return None
    if kind == AGENT.kind:
        return Key(metadata["namespace"], metadata["name"])
    owner = controller_of(document)
    if owner is not None and owner.get("kind") == KIND:
        return Key(metadata["namespace"], owner["name"])
    instance = (metadata.get("labels") or {}).get(INSTANCE)
    return Key(metadata["namespace"], instance) if instance else None


@dataclass(frozen=True, slots=True)
class _Entry:
    """One object, serialized: a thousand agents as dictionaries take 100 MB, and seconds of garbage collection."""

    version: int
    agent: Key | None
    packed: bytes
    state: AgentState
    whole: bool

    def document(self) -> Document:
        document: Document = json.loads(self.packed)
        return document


class Cache:
    """Objects by kind, namespace and name. Each change returns the agent that it concerns, or None if nothing is new.

    The namespace of a cluster-scoped object is empty.

    An event can arrive late, and be older than the response to a write of ours. The higher resourceVersion wins: it is
    a number that grows with each write, and Kubernetes 1.35 made comparing them part of the API.
    """

    def __init__(self) -> None:
        self._objects: dict[ObjectKey, _Entry] = {}
        self._by_agent: defaultdict[Key, set[ObjectKey]] = defaultdict(set)

    def store(self, kind: str, document: Document) -> Key | None:
        """Store the current state of an object."""
        object_key = _object_key(kind, document)
        known = self._objects.get(object_key)
        version = int(document["metadata"]["resourceVersion"])
        if known is not None and version <= known.version:
            return None
        self._forget(object_key)
        packed, whole = _packed(kind, document)
        entry = _Entry(version, agent_of(kind, document), packed, _state_of(kind, document), whole)
        self._objects[object_key] = entry
        if entry.agent is not None:
            self._by_agent[entry.agent].add(object_key)
        return entry.agent

    def remove(self, kind: str, document: Document) -> Key | None:
        """Remove a deleted object, unless a newer object with that name is stored."""
        object_key = _object_key(kind, document)
        known = self._objects.get(object_key)
        if known is None or int(document["metadata"]["resourceVersion"]) < known.version:
            return None
        self._forget(object_key)
        return known.agent

    def replace(self, kind: str, namespace: str | None, documents: Iterable[Document], version: str) -> set[Key]:
        """Store a complete list made at resourceVersion `version`, and remove objects whose deletion was missed."""
        present = {_object_key(kind, document): document for document in documents}
        agents = {self.store(kind, document) for document in present.values()}
        agents |= self.retain(kind, namespace, {each[1:] for each in present}, version)
        return {agent for agent in agents if agent is not None}

    def retain(self, kind: str, namespace: str | None, present: Set[tuple[str, str]], version: str) -> set[Key | None]:
        """Remove the objects missing from `present` (namespace and name), the content of a list made at `version`."""
        agents: set[Key | None] = set()
        for object_key in [each for each in self._objects if each[0] == kind and namespace in {None, each[1]}]:
            known = self._objects[object_key]
            if object_key[1:] not in present and known.version <= int(version):
                agents.add(known.agent)
                self._forget(object_key)
        return agents

    def get(self, kind: str, namespace: str, name: str) -> Document | None:
        """Return the object as last observed."""
        entry = self._objects.get((kind, namespace, name))
        return None if entry is None else entry.document()

    def agent(self, key: Key) -> Document | None:
        """Return the `AgentDeployment` itself."""
        return self.get(AGENT.kind, *key)

    def is_whole(self, kind: str, namespace: str, name: str) -> bool:
        """Return whether the object is stored whole, and not as a summary because of its size."""
        entry = self._objects.get((kind, namespace, name))
        return entry is None or entry.whole

    def agents(self) -> list[Key]:
        """Return the keys of all agents."""
        return [Key(namespace, name) for kind, namespace, name in self._objects if kind == AGENT.kind]

    def classes(self) -> list[Document]:
        """Return all `AgentClass` objects."""
        return [entry.document() for (kind, _, _), entry in self._objects.items() if kind == AGENT_CLASS.kind]

    def states(self) -> Iterator[tuple[Key, AgentState]]:
        """Return the agents, each with the state in its status."""
        return (
            (Key(namespace, name), entry.state)
            for (kind, namespace, name), entry in self._objects.items()
            if kind == AGENT.kind
        )

    def children(self, key: Key) -> list[tuple[str, Document]]:
        """Return the kind and document of each object that belongs to the agent, except its pods."""
        object_keys = [each for each in self._by_agent.get(key, ()) if each[0] not in {AGENT.kind, POD.kind}]
        return [(each[0], self._objects[each].document()) for each in sorted(object_keys)]

    def pods(self, key: Key) -> list[Document]:
        """Return the agent's pods."""
        object_keys = [each for each in self._by_agent.get(key, ()) if each[0] == POD.kind]
        return [self._objects[each].document() for each in sorted(object_keys)]

    def _forget(self, object_key: ObjectKey) -> None:
        known = self._objects.pop(object_key, None)
        if known is not None and known.agent is not None:
            self._by_agent[known.agent].discard(object_key)
            if not self._by_agent[known.agent]:
                del self._by_agent[known.agent]


def _object_key(kind: str, document: Document) -> ObjectKey:
    metadata = document["metadata"]
    return kind, metadata.get("namespace", ""), metadata["name"]


def _packed(kind: str, document: Document) -> tuple[bytes, bool]:
    """Return the object as it is stored, and whether that is the whole object."""
    packed = _json(_slim(kind, document))
    # Classes are few, and needed whole.
    if len(packed) <= MAX_KEPT or kind == AGENT_CLASS.kind:
        return packed, True
    return _json(_summary(document)), False


def _json(document: Document) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _state_of(kind: str, document: Document) -> AgentState:
    if kind != AGENT.kind:
        return _NONE
    status = document.get("status", {})
    # Interned, because thousands of agents share a few values.
    conditions = frozenset(
        (sys.intern(each["type"]), sys.intern(each.get("status", ""))) for each in status.get("conditions") or []
    )
    return AgentState(conditions, status.get("readyReplicas", 0))


def _slim(kind: str, document: Document) -> Document:
    """Return the object without the fields that the operator never reads; of a pod, only its identity and status."""
    metadata = document["metadata"]
    if kind == POD.kind:
        return {"metadata": _identity(metadata), "status": document.get("status", {})}
    if kind in {AGENT.kind, AGENT_CLASS.kind}:
        return {**document, "metadata": _identity(metadata)}
    return {**document, "metadata": {**metadata, "managedFields": shares(kind, document)}}


def _identity(metadata: Document) -> Document:
    annotations = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(f"{ANNOTATION_PREFIX}/")
    }
    return {key: metadata[key] for key in METADATA if key in metadata} | {"annotations": annotations}


def _summary(document: Document) -> Document:
    """Return the identity, the status and the desired number of pods of a large object."""
    metadata, spec, status = document["metadata"], document.get("spec"), document.get("status")
    replicas = spec.get("replicas") if isinstance(spec, dict) else None
    return {
        **{key: document[key] for key in ("apiVersion", "kind", UNREADABLE) if key in document},
        "metadata": _identity(metadata)
        | {"annotations": {}, "ownerReferences": [each for each in [controller_of(document)] if each]},
        "spec": {"template": {"spec": {}}} | ({} if replicas is None else {"replicas": replicas}),
        "status": status if len(_json(status or {})) <= MAX_KEPT else {},
    }
