"""Adoption of the objects of a Helm release, or of objects that a deleted agent left behind. Pure.

Both sides must agree: the agent requests it (`ADOPT`), and each object names this agent (`CONSENT`). A user who may
only write AgentDeployments can set the first annotation, but not the second.
"""

from collections.abc import Sequence
from typing import Any

from agent_operator.kube.cache import controller_of
from agent_operator.kube.drift import union
from agent_operator.manifests.document import Document
from agent_operator.manifests.labels import INSTANCE, MANAGED_BY, NAME, OPERATOR, PRODUCT
from agent_operator.manifests.names import ANNOTATION_PREFIX

# On an AgentDeployment: its owner requests the adoption of the objects of that name.
ADOPT = f"{ANNOTATION_PREFIX}/adopt"
# On an object: the name of the AgentDeployment, in the same namespace, that may adopt it. It is removed with the
# adoption. Helm requires a similar annotation on objects that it adopts (meta.helm.sh/release-name).
CONSENT = f"{ANNOTATION_PREFIX}/adoptable-by"

HELM = "Helm"
HELM_RELEASE = "meta.helm.sh/release-name"
HELM_NAMESPACE = "meta.helm.sh/release-namespace"
# Helm's field managers: for server-side apply since Helm 4, and for plain updates before.
HELM_MANAGERS = frozenset({"helm", "Helm"})


def wants_adoption(agent: Document) -> bool:
    """Return whether the `AgentDeployment` requests the adoption of objects of its name."""
    return (agent["metadata"].get("annotations") or {}).get(ADOPT) == "true"


def consents_to(found: Document) -> str | None:
    """Return the name of the agent that may adopt the object; None if the object names none."""
    name: str | None = (found["metadata"].get("annotations") or {}).get(CONSENT)
    return name or None


def is_adoptable(found: Document, agent: str) -> bool:
    """Return whether the agent of this name can adopt the object, provided that both sides agree.

    The object must have no controller, and must be an agent's object of this name: made by the Helm release of the same
    name, or left behind by a deleted AgentDeployment (`kubectl delete --cascade=orphan`).
    """
    metadata = found["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if controller_of(found) is not None or (labels.get(NAME), labels.get(INSTANCE)) != (PRODUCT, agent):
        return False
    if labels.get(MANAGED_BY) == OPERATOR:
        return True
    release = (annotations.get(HELM_RELEASE), annotations.get(HELM_NAMESPACE))
    return labels.get(MANAGED_BY) == HELM and release == (agent, metadata["namespace"])


def handed_over(entries: Sequence[Document], manager: str) -> list[Document]:
    """Return the managed fields of an object with Helm's entries transferred to `manager`, as an applier.

    Otherwise Helm would remain a co-owner of every field, and fields that the operator drops would stay (Kubernetes:
    "Server-Side Apply", "Transferring ownership"; kubectl does the same for `apply --server-side`).
    """
    ours = [entry for entry in entries if _is_share(entry, {*HELM_MANAGERS, manager})]
    if not any(entry["manager"] in HELM_MANAGERS for entry in ours):
        return list(entries)
    version = ours[-1].get("apiVersion")
    merged: dict[str, Any] = {}
    for entry in ours:
        merged = union(merged, entry.get("fieldsV1") or {})
    share = {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": version,
        "fieldsType": "FieldsV1",
        "fieldsV1": merged,
        "time": ours[-1].get("time"),
    }
    return [entry for entry in entries if entry not in ours] + [share]


def _is_share(entry: Document, managers: set[str]) -> bool:
    return entry.get("manager") in managers and not entry.get("subresource")
