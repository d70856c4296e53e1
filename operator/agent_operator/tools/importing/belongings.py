"""The objects around a workload: those in files, or those that were read from the cluster."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent_operator.manifests.document import Document
from agent_operator.tools.importing.draft import object_of, text_of
from agent_operator.tools.importing.selectors import selects, service_selects

KAGENT = "kagent.dev"


def group_of(document: Document) -> str:
    """Return the API group of an object; empty for the core API."""
    group, slash, _ = text_of(document.get("apiVersion")).partition("/")
    return group if slash else ""


def metadata_of(document: Document) -> dict[str, Any]:
    """Return the metadata of an object."""
    return object_of(document.get("metadata"))


def name_of(document: Document) -> str:
    """Return the name of an object."""
    return text_of(metadata_of(document).get("name"))


@dataclass
class Belongings:
    """Objects among which those of a workload are found. `used` collects the ones that belonged to a workload."""

    documents: list[Document]
    used: set[int] = field(default_factory=set)

    def services(self, namespace: str | None, labels: Mapping[str, str]) -> list[Document]:
        """Return the Services that select pods with these labels."""
        found = self._of("Service", namespace)
        return self._use(each for each in found if service_selects(_spec(each).get("selector"), labels))

    def budgets(self, namespace: str | None, labels: Mapping[str, str]) -> list[Document]:
        """Return the PodDisruptionBudgets that select pods with these labels."""
        found = self._of("PodDisruptionBudget", namespace)
        return self._use(each for each in found if selects(_spec(each).get("selector"), labels))

    def autoscalers(self, namespace: str | None, kind: str, name: str) -> list[Document]:
        """Return the HorizontalPodAutoscalers of a workload."""
        found = self._of("HorizontalPodAutoscaler", namespace)
        target = {"kind": kind, "name": name}
        return self._use(
            each for each in found if object_of(_spec(each).get("scaleTargetRef")).items() >= target.items()
        )

    def ingresses(self, namespace: str | None, services: set[str]) -> list[Document]:
        """Return the Ingresses that name one of these Services."""
        found = self._of("Ingress", namespace)
        return self._use(each for each in found if services & set(_texts(_spec(each))))

    def named(self, kind: str, namespace: str | None, name: str) -> Document | None:
        """Return the object of a kind with this name, if it is there."""
        found = self._use(each for each in self._of(kind, namespace) if name_of(each) == name)
        return found[0] if found else None

    def _of(self, kind: str, namespace: str | None) -> list[Document]:
        return [
            each
            for each in self.documents
            if each.get("kind") == kind and metadata_of(each).get("namespace") in (namespace, None)
        ]

    def _use(self, documents: Iterable[Document]) -> list[Document]:
        found = list(documents)
        self.used |= {id(each) for each in found}
        return found


def _spec(document: Document) -> dict[str, Any]:
    return object_of(document.get("spec"))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
