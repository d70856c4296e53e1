"""The decision: from what an agent should be made of and what is there to what has to be done. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from agent_operator.controller.reconcile.conflicts import Conflict, conflict_of
from agent_operator.controller.reconcile.disputes import Conceded
from agent_operator.controller.reconcile.steps import Apply, Delete, Name, Plan
from agent_operator.kube.compare import fingerprint
from agent_operator.kube.drift import foreign, needs_applying
from agent_operator.kube.owner import Owner
from agent_operator.manifests.document import Document
from agent_operator.manifests.names import ANNOTATION_PREFIX

APPLIED_HASH = f"{ANNOTATION_PREFIX}/applied-hash"

# Pods must not start with somebody else's settings or secrets.
NEEDED_BY = {"Deployment": {"ConfigMap", "Secret", "ServiceAccount"}}


def make_plan(
    owner: Owner,
    desired: Sequence[Document],
    observed: Mapping[Name, Document],
    *,
    adopt: bool = False,
    conceded: Mapping[Name, Conceded] | None = None,
) -> Plan:
    """Compare what should be with what is.

    `observed` has every object of the agent that exists, and any other object that has a name which the agent needs.
    `adopt` lets the agent take over what can be. `conceded` has each object that somebody else changed again at our
    last apply: it is left so until it is changed further, or something else is wanted of it.
    """
    plan = Plan(deletes=list(_superfluous(owner, desired, observed)))
    claimed = _claimed(owner, desired, observed)
    # All of a release is taken over, or nothing: half of it would be of no use to either side.
    take_over = adopt and all(conflict.why == "consented" for conflict in claimed.values())
    plan.conflicts = [] if take_over else list(claimed.values())
    taken = {conflict.kind for conflict in plan.conflicts}
    for wanted in desired:
        kind, name = wanted["kind"], wanted["metadata"]["name"]
        found = observed.get((kind, name))
        if ((kind, name) in claimed and not take_over) or NEEDED_BY.get(kind, set()) & taken:
            continue
        document = with_owner(wanted, owner)
        if found is None:
            plan.applies.append(Apply(document, "create"))
        elif (kind, name) in claimed:
            plan.applies.append(Apply(document, "update", taken_over=found))
        elif needs_applying(document, found) and not _is_conceded((conceded or {}).get((kind, name)), document, found):
            kept = _replicas_to_keep(document, found, observed)
            plan.applies.append(Apply(document, "update", kept, foreign=tuple(foreign(document, found))))
    return plan


def _is_conceded(conceded: Conceded | None, document: Document, found: Document) -> bool:
    return conceded is not None and conceded.document == document and conceded.fingerprint == lasting(found)


def _claimed(owner: Owner, desired: Iterable[Document], observed: Mapping[Name, Document]) -> dict[Name, Conflict]:
    """The objects that we need and that are not ours, each with what it would take to have it."""
    names = [(document["kind"], document["metadata"]["name"]) for document in desired]
    found = {name: observed[name] for name in names if name in observed and not owner.owns(observed[name])}
    return {name: conflict_of(document, *name, owner.name) for name, document in found.items()}


def lasting(document: Document) -> str:
    """Fingerprint of an object as its owners set it: without its status, and without the count of its changes."""
    passing = {"resourceVersion", "managedFields", "generation"}
    metadata = {key: value for key, value in document["metadata"].items() if key not in passing}
    return fingerprint({**document, "metadata": metadata, "status": None})


def with_owner(document: Document, owner: Owner) -> Document:
    """The document as it is applied: with its owner, and with the hash of the whole."""
    metadata = {**document["metadata"], "ownerReferences": [owner.reference()]}
    owned = {**document, "metadata": metadata}
    annotations = {**metadata.get("annotations", {}), APPLIED_HASH: fingerprint(owned)}
    return {**owned, "metadata": {**metadata, "annotations": annotations}}


def _superfluous(owner: Owner, desired: Iterable[Document], observed: Mapping[Name, Document]) -> Iterable[Delete]:
    wanted = {(document["kind"], document["metadata"]["name"]) for document in desired}
    for (kind, name), found in observed.items():
        if (kind, name) not in wanted and owner.owns(found) and "deletionTimestamp" not in found["metadata"]:
            yield Delete(kind, name, found["metadata"]["uid"], found["metadata"]["resourceVersion"])


def _replicas_to_keep(document: Document, found: Document, observed: Mapping[Name, Document]) -> int | None:
    """The pods that a Deployment has when it goes over to an autoscaler.

    Server-side apply resets a field that its only owner gives up: `replicas` would fall to 1 (Kubernetes: "Server-Side
    Apply", transferring ownership), so another field manager takes it first.
    """
    name = document["metadata"]["name"]
    if document["kind"] != "Deployment" or "replicas" in document["spec"]:
        return None
    if {("HorizontalPodAutoscaler", name), ("ScaledObject", name)} & observed.keys():
        return None
    replicas: int | None = found["spec"].get("replicas")
    return replicas
