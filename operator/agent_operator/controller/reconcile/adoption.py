"""Taking over the objects of a Helm release, or those that a deleted agent left behind. Pure.

Both sides must agree: the agent asks for it (`ADOPT`), and each object names this agent (`CONSENT`). A user who may
only write AgentDeployments can set the first, but not the second.
"""

from collections.abc import Sequence
from typing import Any

from agent_operator.kube.cache import controller_of
from agent_operator.kube.drift import union
from agent_operator.manifests.document import Document
from agent_operator.manifests.labels import INSTANCE, MANAGED_BY, NAME, OPERATOR, PRODUCT
from agent_operator.manifests.names import ANNOTATION_PREFIX

# On an AgentDeployment: its owner wants the objects of that name taken over.
ADOPT = f"{ANNOTATION_PREFIX}/adopt"
# On an object: the name of the AgentDeployment, of the same namespace, that may take it over. Helm asks for the like of
# what it is to take over (meta.helm.sh/release-name). It is removed as the object is taken over.
CONSENT = f"{ANNOTATION_PREFIX}/adoptable-by"

HELM = "Helm"
HELM_RELEASE = "meta.helm.sh/release-name"
HELM_NAMESPACE = "meta.helm.sh/release-namespace"
# Under which name Helm writes: by server-side apply since Helm 4, and as plain updates before.
HELM_MANAGERS = frozenset({"helm", "Helm"})


def wants_adoption(agent: Document) -> bool:
    """Whether the `AgentDeployment` asks that objects of its name be taken over."""
    return (agent["metadata"].get("annotations") or {}).get(ADOPT) == "true"


def consents_to(found: Document) -> str | None:
    """Return the name of the agent that may take the object over; None if the object names none."""
    name: str | None = (found["metadata"].get("annotations") or {}).get(CONSENT)
    return name or None


def is_adoptable(found: Document, agent: str) -> bool:
    """Whether the object can go over to the agent of this name, if both sides agree.

    It must have no controller, and be an agent's object of this name: made by the Helm release of the same name, or
    left behind by a deleted AgentDeployment (`kubectl delete --cascade=orphan`).
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
    """The managed fields of an object with Helm's share in the hands of `manager`, as an applier.

    Else Helm would for ever own every field with us, and what we drop would stay (Kubernetes: "Server-Side Apply",
    "Transferring ownership"; kubectl does the same for `apply --server-side`).
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
