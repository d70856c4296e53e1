"""A cache of the Secrets that the operator creates. It can neither get nor watch them, so it caches each check."""

import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent_operator.controller.reconcile.apply import Cluster
from agent_operator.controller.reconcile.steps import Name
from agent_operator.kube.resources import SECRET, Key
from agent_operator.manifests.client_keys import client_keys_name
from agent_operator.manifests.document import Document
from agent_operator.manifests.names import SECRETS_VOLUME

# How long a cached Secret is trusted. Pods of a serving agent have what they need; those of any other may be waiting.
SERVING_SECONDS = 60.0
WAITING_SECONDS = 10.0


@dataclass(frozen=True)
class _Entry:
    document: Document
    at: float


class Secrets:
    """The operator's Secrets as they were last observed or applied."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._entries: dict[Key, dict[str, _Entry]] = {}

    def recheck_all(self) -> None:
        """Drop every cached Secret, so that it is checked again when needed."""
        self._entries.clear()

    def forget(self, key: Key) -> None:
        """Forget an agent that is gone."""
        self._entries.pop(key, None)

    async def observe(self, key: Key, names: Iterable[str], *, serving: bool) -> dict[Name, Document]:
        """Return the existing Secrets among these names, and check those again whose last check is too old."""
        known = self._entries.get(key, {})
        entries: dict[str, _Entry] = {}
        for name in names:
            entry = known.get(name)
            if entry is None or time.monotonic() - entry.at > recheck_seconds(serving=serving):
                document = await self._cluster.read_secret(key.namespace, name)
                entry = None if document is None else _Entry(document, time.monotonic())
            if entry is not None:
                entries[name] = entry
        self._keep(key, entries)
        return {(SECRET.kind, name): entry.document for name, entry in entries.items()}

    def applied(self, key: Key, document: Document) -> None:
        """Record a Secret as it was just applied, including its uid."""
        entries = self._entries.get(key, {})
        self._keep(key, {**entries, document["metadata"]["name"]: _Entry(document, time.monotonic())})

    def _keep(self, key: Key, entries: dict[str, _Entry]) -> None:
        if entries:
            self._entries[key] = entries
        else:
            self._entries.pop(key, None)


def recheck_seconds(*, serving: bool) -> float:
    """Return the seconds for which a check is trusted, with jitter so that agents are not all checked at once."""
    return (SERVING_SECONDS if serving else WAITING_SECONDS) * random.uniform(0.8, 1.2)  # noqa: S311  not secrecy


def ours(agent: str, wanted: Iterable[Document], observed: Mapping[Name, Document]) -> set[str]:
    """Return the names of the operator's Secrets that an agent should have, or that its Deployment still mounts."""
    names = {each["metadata"]["name"] for each in wanted if each["kind"] == SECRET.kind}
    deployment = observed.get(("Deployment", agent))
    return names | (_mounted(deployment) & {agent, client_keys_name(agent)} if deployment is not None else set())


def _mounted(deployment: Document) -> set[str]:
    """Return the names of the Secrets in the volume of secrets."""
    volumes = deployment["spec"]["template"]["spec"].get("volumes") or []
    sources = [
        source
        for volume in volumes
        if volume["name"] == SECRETS_VOLUME
        for source in (volume.get("projected") or {}).get("sources") or []
    ]
    return {source["secret"]["name"] for source in sources if "secret" in source}
