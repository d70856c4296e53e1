"""The Lease of the operators of one scope: its name, its metadata, and the identities of its holders."""

import hashlib
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agent_operator.kube.resources import Resource
from agent_operator.manifests.document import Document
from agent_operator.manifests.labels import PREFIX

LEASE = Resource("Lease", "coordination.k8s.io", "v1", "leases")
# The chart names the Lease after its release, so that doctor finds it only by this label.
LEASE_LABEL = {f"{PREFIX}/part-of": "portside"}
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class LeaseName(NamedTuple):
    """The namespace and name of the Lease that makes one of several operators the leader."""

    namespace: str
    name: str


def lease(namespace: str | None, name: str | None, namespaces: Sequence[str], selector: str | None) -> LeaseName | None:
    """Return the Lease to use; None outside a pod without `namespace`.

    The defaults are the pod's namespace, and the name derived from the scope (`namespaces` and `selector`).
    """
    chosen = namespace or own_namespace()
    return LeaseName(chosen, name or lease_name(namespaces, selector)) if chosen else None


def lease_name(namespaces: Sequence[str], selector: str | None) -> str:
    """Return the name of the Lease shared by all operators with the same namespaces and selector."""
    if not namespaces and not selector:
        return "agent-operator"
    scope = "\n".join([selector or "", *sorted(set(namespaces))])
    return f"agent-operator-{hashlib.sha256(scope.encode()).hexdigest()[:8]}"


def own_namespace() -> str | None:
    """Return the namespace of the pod that this process runs in, or None outside a pod."""
    try:
        return NAMESPACE_FILE.read_text().strip() or None
    except OSError:
        return None


def new_identity() -> str:
    """Return an identity that is unique to this process and changes with every restart."""
    return f"{socket.gethostname()}_{uuid.uuid4().hex[:12]}"


def own_pod(namespace: str) -> Document | None:
    """Return the owner reference to this process's pod, from what the chart sets by the downward API.

    Returns None outside a pod, and in a pod of another namespace than `namespace`: the garbage collector treats an
    owner in another namespace as missing.
    """
    where, name, uid = (os.environ.get(each) for each in ("POD_NAMESPACE", "POD_NAME", "POD_UID"))
    if where != namespace or not name or not uid:
        return None
    return {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}


def lease_metadata(metadata: Mapping[str, Any], pod: Document | None) -> Document:
    """Return the Lease's metadata with our label, and with `pod`, if any, as its only owner of kind Pod."""
    kept = [each for each in metadata.get("ownerReferences") or [] if each.get("kind") != "Pod"]
    return {
        **metadata,
        "labels": {**(metadata.get("labels") or {}), **LEASE_LABEL},
        "ownerReferences": kept if pod is None else [*kept, pod],
    }
