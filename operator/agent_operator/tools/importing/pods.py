"""Settings of a pod: scheduling, volumes, accounts, security, and its other containers."""

from collections.abc import Mapping
from typing import Any

from agent_operator.api.spec import AgentSpec
from agent_operator.tools.importing.container import convert_sidecar
from agent_operator.tools.importing.draft import Draft, object_of, objects_of, text_of

# Fields of a pod, and where an AgentDeployment has them in the same form.
_SAME = {
    "nodeSelector": "nodeSelector",
    "tolerations": "tolerations",
    "affinity": "affinity",
    "priorityClassName": "priorityClassName",
    "imagePullSecrets": "imagePullSecrets",
}
_CONVERTED = {
    *_SAME,
    "containers",
    "initContainers",
    "volumes",
    "topologySpreadConstraints",
    "serviceAccountName",
    "serviceAccount",
    "automountServiceAccountToken",
    "securityContext",
    "terminationGracePeriodSeconds",
}
# What the API server writes into every pod, or what has no effect there.
_DEFAULTS: Mapping[str, Any] = {
    "dnsPolicy": "ClusterFirst",
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
    "enableServiceLinks": True,
    "preemptionPolicy": "PreemptLowerPriority",
}
_DEFAULT_GRACE_SECONDS = 30
# Volumes of Portside itself.
_VOLUMES = ("tmp", "secrets", "runtime-tmp", "runtime-code", "runtime-prompt")
# Settings of a pod's securityContext that go to the runtime (container.py).
_OF_POD = {"fsGroup", "fsGroupChangePolicy", "supplementalGroups", "supplementalGroupsPolicy", "sysctls"}
_OF_PORTSIDE = "app.kubernetes.io/"
_SPREAD = {"maxSkew", "topologyKey", "whenUnsatisfiable"}
# Written by controllers and by kubectl.
_OF_OTHERS = {
    "pod-template-hash",
    "kubectl.kubernetes.io/restartedAt",
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
}


def convert_pod(draft: Draft, pod: dict[str, Any], source: str) -> None:
    """Put the settings of a pod into the draft, except those of its containers."""
    for field, target in _SAME.items():
        draft.put(target, pod.get(field), f"{source}.{field}")
    if _OF_PORTSIDE in repr(pod.get("affinity")):
        draft.note(f"{source}.affinity", f"labels under {_OF_PORTSIDE} have other values on the agent's pods: check it")
    _spread(draft, pod, source)
    _account(draft, pod, source)
    _security(draft, pod, source)
    grace = pod.get("terminationGracePeriodSeconds")
    if grace != _DEFAULT_GRACE_SECONDS:
        draft.put("rollout.terminationGracePeriodSeconds", grace, f"{source}.terminationGracePeriodSeconds")
    for field, value in pod.items():
        if field not in _CONVERTED and value not in (None, {}, [], False) and _DEFAULTS.get(field) != value:
            draft.lost(f"{source}.{field}", "an AgentDeployment has no such field: check that the agent works without")


def convert_volumes(draft: Draft, volumes: Any, source: str) -> None:
    """Put the volumes that are mounted into the draft.

    Those with a name of Portside's own get another, also in their mounts.
    """
    containers = [draft.spec.get("runtime", {}), *draft.spec.get("sidecars", []), *draft.spec.get("initContainers", [])]
    mounts = [*objects_of(draft.spec.get("extraVolumeMounts"))]
    for each in containers:
        mounts += [*objects_of(each.get("volumeMounts")), *objects_of(each.get("volumeDevices"))]
    mounted = {text_of(each.get("name")) for each in mounts}
    used = [each for each in objects_of(volumes) if text_of(each.get("name")) in mounted]
    renamed = {each: f"{each}-2" for each in _VOLUMES if each in {text_of(volume.get("name")) for volume in used}}
    for old in renamed:
        draft.note(f"{source}[{old}].name", f"a volume of Portside has this name: it is {old}-2 now")
    draft.put("extraVolumes", _renamed(used, renamed), source)
    for owner, field in [*((each, "volumeMounts") for each in containers), (draft.spec, "extraVolumeMounts")]:
        if owner.get(field):
            owner[field] = _renamed(objects_of(owner[field]), renamed)


def _renamed(entries: list[dict[str, Any]], names: dict[str, str]) -> list[dict[str, Any]]:
    return [{**each, "name": names.get(text_of(each.get("name")), each.get("name"))} for each in entries]


def convert_others(draft: Draft, containers: Any, field: str, source: str) -> None:
    """Put further containers into the draft as `sidecars` or `initContainers`."""
    others = [dict(convert_sidecar(draft, each, f"{source}[{each.get('name')}]")) for each in objects_of(containers)]
    draft.put(field, others, source)


def convert_labels(
    draft: Draft, metadata: dict[str, Any], source: str, selecting: frozenset[str] = frozenset()
) -> None:
    """Put the labels and annotations of a pod into the draft, except those of controllers and of kubectl.

    Labels by which the old objects select pods (`selecting`) are left out: otherwise the old Service would send
    requests past the agent's container, and two budgets for one pod would block its eviction.
    """
    labels = {key: value for key, value in object_of(metadata.get("labels")).items() if key not in _OF_OTHERS}
    reserved = sorted(key for key in labels if key.startswith(_OF_PORTSIDE))
    for key in reserved:
        draft.lost(f"{source}.labels.{key}", "Portside sets this label: select the agent's pods by its values")
    for key in sorted(selecting & labels.keys() - set(reserved)):
        draft.lost(
            f"{source}.labels.{key}",
            "the old objects select pods by this label, and must not select the agent's: use "
            f"app.kubernetes.io/instance={draft.name} in selectors, also of affinity",
        )
    kept = {key: value for key, value in labels.items() if key not in selecting.union(reserved)}
    draft.put("podLabels", kept, f"{source}.labels")
    annotations = object_of(metadata.get("annotations"))
    others = {key: value for key, value in annotations.items() if key not in _OF_OTHERS}
    draft.put("podAnnotations", others, f"{source}.annotations")


def _spread(draft: Draft, pod: dict[str, Any], source: str) -> None:
    path = f"{source}.topologySpreadConstraints"
    constraints = objects_of(pod.get("topologySpreadConstraints"))
    for index, each in enumerate(constraints):
        for field in sorted(each.keys() - _SPREAD - {"labelSelector"}):
            draft.lost(f"{path}[{index}].{field}", "a constraint has maxSkew, topologyKey and whenUnsatisfiable only")
    kept = [{key: value for key, value in each.items() if key in _SPREAD} for each in constraints]
    draft.put("topologySpreadConstraints", kept, path)


def _account(draft: Draft, pod: dict[str, Any], source: str) -> None:
    name = text_of(pod.get("serviceAccountName"))
    if name and name != "default":
        draft.spec["serviceAccount"] = {"create": False}
        draft.put("serviceAccount.name", name, f"{source}.serviceAccountName")
    if pod.get("automountServiceAccountToken") or (name and name != "default"):
        draft.note(
            f"{source}.serviceAccountName",
            "the pods get no token for the Kubernetes API. If the program calls it, mount one: extraVolumes with a "
            "projected serviceAccountToken",
        )


def _security(draft: Draft, pod: dict[str, Any], source: str) -> None:
    """Merge what only a pod has into the default, which a value would replace as a whole.

    Without the user and group of the default, because each of the two images has its own.
    """
    given = object_of(pod.get("securityContext"))
    of_pod = {key: value for key, value in given.items() if key in _OF_POD}
    if of_pod:
        default = AgentSpec.model_fields["pod_security_context"].default
        common = {key: value for key, value in default.items() if key not in ("runAsUser", "runAsGroup")}
        draft.put("podSecurityContext", {**common, **of_pod}, f"{source}.securityContext")
