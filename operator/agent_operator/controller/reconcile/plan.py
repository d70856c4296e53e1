"""The plan: what has to be done to get from the observed objects of an agent to the desired ones. Pure."""

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

# Pods must not start with foreign settings or Secrets.
NEEDED_BY = {"Deployment": {"ConfigMap", "Secret", "ServiceAccount"}}


def make_plan(
    owner: Owner,
    desired: Sequence[Document],
    observed: Mapping[Name, Document],
    *,
    adopt: bool = False,
    conceded: Mapping[Name, Conceded] | None = None,
) -> Plan:
    """Return the plan that turns the observed objects into the desired ones.

    `observed` has every existing object of the agent, and any other object with a name that the agent needs. `adopt`
    lets the agent adopt the objects that it can. `conceded` has each object that another client changed again at our
    last apply: it is left so until it is changed further, or its desired document changes.
    """
    plan = Plan(deletes=list(_superfluous(owner, desired, observed)))
    claimed = _claimed(owner, desired, observed)
    # A release is adopted completely or not at all: half of it would be of no use to either side.
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
    """Return the objects that the agent needs but does not own, each with its conflict."""
    names = [(document["kind"], document["metadata"]["name"]) for document in desired]
    found = {name: observed[name] for name in names if name in observed and not owner.owns(observed[name])}
    return {name: conflict_of(document, *name, owner.name) for name, document in found.items()}


def lasting(document: Document) -> str:
    """Return the fingerprint of an object as its owners set it.

    It excludes the status, the managed fields, and the versions that count its changes.
    """
    passing = {"resourceVersion", "managedFields", "generation"}
    metadata = {key: value for key, value in document["metadata"].items() if key not in passing}
    return fingerprint({**document, "metadata": metadata, "status": None})


def with_owner(document: Document, owner: Owner) -> Document:
    """Return the document as it is applied: with its owner reference, and with a hash of the whole."""
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
    """Return the replicas to preserve when an autoscaler takes over a Deployment; None if none have to be.

    Server-side apply resets a field when its only owner drops it: `replicas` would fall to 1 (Kubernetes: "Server-Side
    Apply", transferring ownership). Therefore another field manager takes ownership of it first.
    """
    name = document["metadata"]["name"]
    if document["kind"] != "Deployment" or "replicas" in document["spec"]:
        return None
    if {("HorizontalPodAutoscaler", name), ("ScaledObject", name)} & observed.keys():
        return None
    replicas: int | None = found["spec"].get("replicas")
    return replicas
