"""Fields of an agent's objects that other controllers and users may set. Pure."""

import re
from typing import Any

Step = str | tuple[tuple[str, Any], ...]
Path = tuple[Step, ...]
"""The path to a field: names, and for a list member the keys that identify it."""

_TEMPLATE = ("spec", "template", "metadata")
# Annotations whose only effect is to replace the pods of a Deployment. They are written by `kubectl rollout restart`
# (Argo CD, k9s and Headlamp write the same), by Stakater Reloader and Keel when something that a pod reads has changed,
# and by Rancher's "Redeploy".
ALLOWED_ANNOTATIONS = frozenset(
    {
        "kubectl.kubernetes.io/restartedAt",
        "reloader.stakater.com/last-reloaded-from",
        "keel.sh/update-time",
        "cattle.io/timestamp",
    }
)
# Reloader's other method: a variable that no program reads, named after the changed object.
ALLOWED_ENV = re.compile(r"STAKATER_[A-Z0-9_]+_(CONFIGMAP|SECRET)")
# Fields that a cluster assigns, and that load balancer controllers set. `replicas` belongs to the autoscaler, if there
# is one. `kubectl rollout pause` pauses a rollout on purpose; the status and doctor report it.
_ALLOWED_FIELDS: dict[str, set[Path]] = {
    "Deployment": {("spec", "replicas"), ("spec", "paused"), (*_TEMPLATE, "creationTimestamp")},
    "Service": {
        ("spec", name)
        for name in (
            *("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"),
            *("loadBalancerIP", "loadBalancerClass"),
        )
    },
}


def is_allowed(kind: str, path: Path) -> bool:
    """Return whether others may set this field of an object of this kind."""
    if path in _ALLOWED_FIELDS.get(kind, ()):
        return True
    last = path[-1]
    if kind == "Service":
        return last == "nodePort"
    if kind != "Deployment":
        return False
    if path[:-1] == (*_TEMPLATE, "annotations"):
        return last in ALLOWED_ANNOTATIONS
    if len(path) < 2 or path[-2] != "env" or isinstance(last, str):  # noqa: PLR2004  the list and its member
        return False
    return ALLOWED_ENV.fullmatch(str(dict(last).get("name"))) is not None
