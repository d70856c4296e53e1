"""The facts that were read about one agent, and what could not be read. Other modules interpret them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.runtime import Runtime
from agent_operator.api.validation import InvalidAgentError, parse
from agent_operator.classes.choice import Refusal
from agent_operator.controller.reconcile.steps import Name
from agent_operator.manifests.document import Document
from agent_operator.manifests.labels import PREFIX

COMPONENT = f"{PREFIX}/component"


@dataclass(frozen=True)
class Lease:
    """An operator's Lease: its holder, seconds since its last renewal, and whether it is still renewed."""

    namespace: str
    name: str
    holder: str
    age: float
    alive: bool


@dataclass(frozen=True)
class Reference:
    """A Secret or ConfigMap that the pods need: its name and its use."""

    kind: str
    name: str
    use: str
    key: str | None = None


@dataclass(frozen=True)
class Health:
    """The responses of a pod to /health/ready and /health, None if there was no response."""

    ready: Document | None
    components: Document | None


@dataclass
class Evidence:
    """The facts. A list is also empty, and a value None, if it could not be read: `unseen` has the topic and why.

    `resolved` is the agent with its class, and with the addresses of the servers that its tools refer to.
    `class_refusal` is why its class could not be applied.
    """

    namespace: str
    name: str
    defined: bool = True
    agent: Document | None = None
    resolved: AgentDeployment | None = None
    class_refusal: Refusal | None = None
    objects: dict[Name, Document] = field(default_factory=dict)
    unserved: set[str] = field(default_factory=set)
    missing: list[Reference] = field(default_factory=list)
    pods: list[Document] = field(default_factory=list)
    events: list[Document] = field(default_factory=list)
    slices: list[Document] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    health: dict[str, Health] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)

    @property
    def runtime(self) -> Runtime | None:
        """The runtime in the agent's spec; None without one, or if the spec is invalid."""
        try:
            return parse(self.agent or {}).spec.runtime
        except InvalidAgentError:
            return None

    def deployments(self) -> Iterator[tuple[str, Document | None]]:
        """Yield the Deployments of the agent's pods, by component."""
        yield "api", self.objects.get(("Deployment", self.name))
        worker = self.objects.get(("Deployment", f"{self.name}-worker"))
        if worker is not None:
            yield "worker", worker

    def pods_of(self, component: str) -> list[Document]:
        """Return the pods of a component, without those that are being deleted."""
        return [
            pod
            for pod in self.pods
            if (pod["metadata"].get("labels") or {}).get(COMPONENT, "api") == component
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def events_of(self, name: str) -> list[Document]:
        """Return the Events about the object with that name, newest last."""
        about = (event for event in self.events if event.get("involvedObject", {}).get("name") == name)
        return sorted(about, key=time_of)


def time_of(event: Document) -> str:
    """Return the time at which an event was last observed, as text; empty if it has none."""
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")


def references(template: Document) -> list[Reference]:
    """Return the Secrets and ConfigMaps without which pods of this template do not start."""
    found: dict[tuple[str, str], Reference] = {}
    for each in _references(template.get("spec") or {}):
        found.setdefault((each.kind, each.name), each)
    return list(found.values())


def _references(pod: Document) -> Iterator[Reference]:
    for volume in pod.get("volumes") or []:
        where = f"volume {volume['name']}"
        sources = [volume, *((volume.get("projected") or {}).get("sources") or [])]
        for source in sources:
            for field_, kind, name in (("secret", "Secret", "secretName"), ("configMap", "ConfigMap", "name")):
                given = source.get(field_) or {}
                if given and not given.get("optional"):
                    items = given.get("items") or []
                    key = items[0]["key"] if items else None
                    yield Reference(kind, given.get(name) or given.get("name", ""), where, key)
    for container in [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]:
        yield from _of_environment(container)


def _of_environment(container: Document) -> Iterator[Reference]:
    where = f"the environment of container {container['name']}"
    for source in container.get("envFrom") or []:
        for field_, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
            given = source.get(field_) or {}
            if given and not given.get("optional"):
                yield Reference(kind, given["name"], where)
    for variable in container.get("env") or []:
        given_from = variable.get("valueFrom") or {}
        for field_, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            given = given_from.get(field_) or {}
            if given and not given.get("optional"):
                yield Reference(kind, given["name"], where, given["key"])
