"""What is known of the Secrets that we make. They can be neither read nor watched, so each look is remembered."""

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

# How long a look is believed: of an agent that serves its pods have what they need, of another they may be waiting.
SERVING_SECONDS = 60.0
WAITING_SECONDS = 10.0


@dataclass(frozen=True)
class _Look:
    document: Document
    at: float


class Secrets:
    """Our Secrets as they were seen or applied last."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._looks: dict[Key, dict[str, _Look]] = {}

    def recheck_all(self) -> None:
        """Look at every Secret again at the next chance."""
        self._looks.clear()

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self._looks.pop(key, None)

    async def observe(self, key: Key, names: Iterable[str], *, serving: bool) -> dict[Name, Document]:
        """The Secrets of these names that exist, looked at now if the last look is too old."""
        known = self._looks.get(key, {})
        looks: dict[str, _Look] = {}
        for name in names:
            look = known.get(name)
            if look is None or time.monotonic() - look.at > recheck_seconds(serving=serving):
                document = await self._cluster.read_secret(key.namespace, name)
                look = None if document is None else _Look(document, time.monotonic())
            if look is not None:
                looks[name] = look
        self._keep(key, looks)
        return {(SECRET.kind, name): look.document for name, look in looks.items()}

    def applied(self, key: Key, document: Document) -> None:
        """Take in a Secret as it was just applied, uid and all."""
        looks = self._looks.get(key, {})
        self._keep(key, {**looks, document["metadata"]["name"]: _Look(document, time.monotonic())})

    def _keep(self, key: Key, looks: dict[str, _Look]) -> None:
        if looks:
            self._looks[key] = looks
        else:
            self._looks.pop(key, None)


def recheck_seconds(*, serving: bool) -> float:
    """Seconds for which a look is believed, spread so that agents do not all look at once."""
    return (SERVING_SECONDS if serving else WAITING_SECONDS) * random.uniform(0.8, 1.2)  # noqa: S311  not secrecy


def ours(agent: str, wanted: Iterable[Document], observed: Mapping[Name, Document]) -> set[str]:
    """Names of the Secrets that an agent should have of us, or has had until now: its Deployment still mounts those."""
    names = {each["metadata"]["name"] for each in wanted if each["kind"] == SECRET.kind}
    deployment = observed.get(("Deployment", agent))
    return names | (_mounted(deployment) & {agent, client_keys_name(agent)} if deployment is not None else set())


def _mounted(deployment: Document) -> set[str]:
    """Names of the Secrets in the volume of secrets."""
    volumes = deployment["spec"]["template"]["spec"].get("volumes") or []
    sources = [
        source
        for volume in volumes
        if volume["name"] == SECRETS_VOLUME
        for source in (volume.get("projected") or {}).get("sources") or []
    ]
    return {source["secret"]["name"] for source in sources if "secret" in source}
