"""Service and Ingress of an agent from those of a workload."""

from collections.abc import Sequence
from typing import Any

from agent_operator.tools.importing.draft import Draft, object_of, objects_of, text_of

_SERVICE_DEFAULTS: dict[str, Any] = {
    "sessionAffinity": "None",
    "internalTrafficPolicy": "Cluster",
    "externalTrafficPolicy": "Cluster",
    "ipFamilyPolicy": "SingleStack",
    "allocateLoadBalancerNodePorts": True,
}
# Assigned by the API server.
_ASSIGNED = {"clusterIPs", "ipFamilies", "healthCheckNodePort"}
_SERVICE = {"type", "ports", "selector", "clusterIP", *_ASSIGNED}
_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")
_OF_KUBECTL = "kubectl.kubernetes.io/last-applied-configuration"


def title(document: dict[str, Any]) -> str:
    """Return kind and name of an object, as used in messages."""
    return f"{document.get('kind')}/{object_of(document.get('metadata')).get('name')}"


def port_of(service: dict[str, Any], container: dict[str, Any]) -> tuple[int | None, dict[str, Any]]:
    """Return the container's port that a Service leads to, and the entry of the Service's ports; None if it has no."""
    named = {each.get("name"): each.get("containerPort") for each in objects_of(container.get("ports"))}
    for each in objects_of(object_of(service.get("spec")).get("ports")):
        target = each.get("targetPort", each.get("port"))
        number = named.get(target) if isinstance(target, str) else target
        if isinstance(number, int) and (isinstance(target, str) or not named or number in named.values()):
            return number, each
    return None, {}


def convert_service(draft: Draft, service: dict[str, Any], container: dict[str, Any]) -> None:
    """Put a Service into the draft."""
    source = title(service)
    spec, metadata = object_of(service.get("spec")), object_of(service.get("metadata"))
    _, chosen = port_of(service, container)
    if spec.get("type") in _TYPES and spec["type"] != _TYPES[0]:
        draft.put("service.type", spec["type"], f"{source}: spec.type")
    elif spec.get("type") not in (None, *_TYPES):
        draft.lost(f"{source}: spec.type", f"an agent's Service is of the type {', '.join(_TYPES)}")
    draft.put("service.port", chosen.get("port"), f"{source}: spec.ports")
    annotations = object_of(metadata.get("annotations"))
    kept = {key: value for key, value in annotations.items() if key != _OF_KUBECTL}
    draft.put("service.annotations", kept, f"{source}: metadata.annotations")
    for each in objects_of(spec.get("ports")):
        if each is not chosen:
            draft.lost(f"{source}: spec.ports[{each.get('name') or each.get('port')}]", "an agent serves one port")
        elif each.get("nodePort"):
            draft.lost(f"{source}: spec.ports.nodePort", "the cluster chooses the node port of an agent's Service")
    if spec.get("clusterIP") == "None":
        draft.lost(f"{source}: spec.clusterIP", "an agent's Service is not headless: keep this one as well if needed")
    for field, value in spec.items():
        if field not in _SERVICE and value not in (None, {}, [], False) and _SERVICE_DEFAULTS.get(field) != value:
            draft.lost(f"{source}: spec.{field}", "an agent's Service has no such field")
    if metadata.get("name") != draft.name:
        draft.note(
            f"{source}: metadata.name",
            f"the agent's Service is named {draft.name}. To keep the old name for clients, change the selector of "
            "this Service to the agent's pods",
        )


def convert_ingress(draft: Draft, ingresses: Sequence[dict[str, Any]], services: set[str]) -> None:
    """Put the first Ingress that leads to one of these Services into the draft, and report the others."""
    found = [each for each in ingresses if services & {name for _, _, name in _backends(each)}]
    for each in found[1:]:
        draft.lost(title(each), "an agent has one Ingress: keep this one, and point it at the agent's Service")
    for ingress in found[:1]:
        _convert_ingress(draft, ingress, services)


def _convert_ingress(draft: Draft, ingress: dict[str, Any], services: set[str]) -> None:
    source, spec = title(ingress), object_of(ingress.get("spec"))
    ours = [(host, path) for host, path, name in _backends(ingress) if name in services]
    _, first = ours[0]
    draft.spec["ingress"] = {"enabled": True}
    draft.put("ingress.className", spec.get("ingressClassName"), f"{source}: spec.ingressClassName")
    annotations = object_of(object_of(ingress.get("metadata")).get("annotations"))
    kept = {key: value for key, value in annotations.items() if key != _OF_KUBECTL}
    draft.put("ingress.annotations", kept, f"{source}: metadata.annotations")
    draft.put("ingress.hosts", list(dict.fromkeys(host for host, _ in ours if host)), f"{source}: spec.rules")
    draft.put("ingress.path", first.get("path"), f"{source}: spec.rules")
    draft.put("ingress.pathType", first.get("pathType"), f"{source}: spec.rules")
    for _, path in ours:
        if path.get("path") != first.get("path"):
            draft.lost(f"{source}: spec.rules", "an agent's Ingress has one path: choose one that contains the others")
            break
    if len(ours) < len(_backends(ingress)):
        draft.lost(f"{source}: spec.rules", "rules for other Services stay in the old Ingress: keep it for those")
    secrets = [text_of(each.get("secretName")) for each in objects_of(spec.get("tls"))]
    draft.put("ingress.tlsSecretName", next(filter(None, secrets), None), f"{source}: spec.tls")
    for each in secrets[1:]:
        draft.lost(f"{source}: spec.tls[{each}]", "an agent's Ingress has one certificate: use one for all hosts")


def _backends(ingress: dict[str, Any]) -> list[tuple[str, dict[str, Any], str]]:
    """Return host, path and Service of each path of an Ingress. The default backend has the path /."""
    spec = object_of(ingress.get("spec"))
    found = [
        (text_of(rule.get("host")), path, _service(object_of(path.get("backend"))))
        for rule in objects_of(spec.get("rules"))
        for path in objects_of(object_of(rule.get("http")).get("paths"))
    ]
    default = object_of(spec.get("defaultBackend"))
    return [*found, ("", {"path": "/", "pathType": "Prefix"}, _service(default))] if default else found


def _service(backend: dict[str, Any]) -> str:
    return text_of(object_of(backend.get("service")).get("name"))
