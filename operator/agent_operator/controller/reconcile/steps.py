"""The steps of a plan."""

from dataclasses import dataclass, field
from typing import Literal

from agent_operator.controller.reconcile.conflicts import Conflict
from agent_operator.kube.drift import Foreign
from agent_operator.manifests.document import Document

Name = tuple[str, str]  # kind and name; all objects of an agent are in its namespace


@dataclass(frozen=True)
class Apply:
    """Apply the document.

    `keep_replicas` is the number of pods to pass on to a new autoscaler. `taken_over` is the foreign object that the
    agent adopts. `foreign` are the foreign entries in the agent's own object, which are removed.
    """

    document: Document
    operation: Literal["create", "update"]
    keep_replicas: int | None = None
    taken_over: Document | None = None
    foreign: tuple[Foreign, ...] = ()

    @property
    def kind(self) -> str:
        kind: str = self.document["kind"]
        return kind

    @property
    def identity(self) -> Name:
        """The kind and name of the object."""
        return self.kind, self.document["metadata"]["name"]


@dataclass(frozen=True)
class Delete:
    """Delete the object if it is unchanged since its owner was checked."""

    kind: str
    name: str
    uid: str
    version: str


@dataclass
class Plan:
    """What has to be done, in this order: delete, then apply. Empty if everything is as desired."""

    deletes: list[Delete] = field(default_factory=list)
    applies: list[Apply] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
