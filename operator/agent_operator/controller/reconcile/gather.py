"""The observed objects of an agent: from the cache, and from the API server what the cache does not hold."""

import asyncio
from collections.abc import Sequence

from agent_operator.controller.reconcile import secret_cache
from agent_operator.controller.reconcile.apply import Cluster
from agent_operator.controller.reconcile.secret_cache import Secrets
from agent_operator.controller.reconcile.steps import Name
from agent_operator.controller.status.status import is_ready
from agent_operator.kube.cache import Cache
from agent_operator.kube.owner import Owner
from agent_operator.kube.resources import AGENT, BY_KIND, SECRET, Key
from agent_operator.manifests.document import Document


class Gatherer:
    """Gathers the objects that the plan of an agent depends on."""

    def __init__(self, cluster: Cluster, cache: Cache, known: Secrets) -> None:
        self._cluster = cluster
        self._cache = cache
        self._secrets = known
        self._met: dict[Key, set[Name]] = {}

    def note_existing(self, key: Key, name: Name) -> bool:
        """Record that an object exists which the cache does not hold: a foreign one. Return whether it is new."""
        met = self._met.setdefault(key, set())
        news = name not in met
        met.add(name)
        return news

    def forget(self, key: Key) -> None:
        """Forget an agent that is gone."""
        self._met.pop(key, None)
        self._secrets.forget(key)

    async def observe(self, key: Key, owner: Owner, wanted: Sequence[Document]) -> dict[Name, Document] | None:
        """Return every object that the plan depends on; None if the agent turns out to be gone."""
        observed: dict[Name, Document] = {
            (kind, child["metadata"]["name"]): child for kind, child in self._cache.children(key)
        }
        for kind, name in [each for each in observed if not self._cache.is_whole(each[0], key.namespace, each[1])]:
            child = await self._cluster.get(BY_KIND[kind], key.namespace, name)
            # If it is gone, its deletion event has yet to arrive.
            observed |= {(kind, name): child} if child is not None else {}
        missing = [(each["kind"], each["metadata"]["name"]) for each in wanted]
        missing = [name for name in missing if name not in observed and name[0] != SECRET.kind]
        # An agent that was never reconciled has no objects that could have been removed.
        status = (self._cache.agent(key) or {}).get("status")
        if missing and status is not None and not await self._is_still_there(key, owner.uid):
            return None
        # A creating apply detects a foreign object at no extra cost (409). Once one is known, all missing objects are
        # read, so that a single message names every conflict.
        met = missing if self._met.get(key) else []
        found = await asyncio.gather(*(self._cluster.get(BY_KIND[kind], key.namespace, name) for kind, name in met))
        observed |= {name: child for name, child in zip(met, found, strict=True) if child is not None}
        names = secret_cache.ours(key.name, wanted, observed)
        return observed | await self._secrets.observe(key, names, serving=is_ready(status or {}))

    async def _is_still_there(self, key: Key, uid: str) -> bool:
        """Return whether the agent still exists, before anything is created for it: its deletion event may be late.

        The garbage collector deletes the children of a deleted agent one by one; each would seem to be missing.
        """
        live = await self._cluster.get(AGENT, *key)
        return live is not None and live["metadata"]["uid"] == uid and "deletionTimestamp" not in live["metadata"]
