"""Discovery of the kinds to watch: a cluster may lack kinds that are installed with other products."""

from dataclasses import replace

from agent_operator.kube.connection import Connection
from agent_operator.kube.reader import Reader
from agent_operator.kube.resources import AGENT, AGENT_CLASS, BY_KIND, OPTIONAL, WATCHED, Resource


class Kinds:
    """The kinds that the cluster serves, as of the last refresh. `selector` limits which agents are ours.

    `classes` is whether classes are read from the cluster, which requires permissions for the whole of it.
    """

    def __init__(self, connection: Connection, selector: str | None = None, *, classes: bool = True) -> None:
        self._reader = Reader(connection)
        self._optional = (*OPTIONAL, AGENT_CLASS) if classes else OPTIONAL
        self._always = tuple(replace(each, selector=selector) if each is AGENT else each for each in WATCHED)
        self._present: frozenset[str] = frozenset()

    def has(self, kind: str) -> bool:
        """Return whether objects of the kind can be created."""
        return not BY_KIND[kind].optional or kind in self._present

    def watched(self) -> tuple[Resource, ...]:
        """Return the kinds to list and watch now."""
        return (*self._always, *(each for each in self._optional if each.kind in self._present))

    async def refresh(self) -> frozenset[str]:
        """Query the cluster, and return the kinds that were added or removed. Raises ApiError and UnreachableError."""
        present = frozenset([each.kind for each in self._optional if await self._reader.is_served(each)])
        changed = present ^ self._present
        self._present = present
        return changed
