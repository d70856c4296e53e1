"""Findings about the Service: whether requests reach the pods. Pure."""

from collections.abc import Iterator

from agent_operator.tools.doctor.evidence import Evidence
from agent_operator.tools.doctor.report import Finding, State


def service_findings(evidence: Evidence) -> Iterator[Finding]:
    """Yield the problems between the Service and the pods."""
    service = evidence.objects.get(("Service", evidence.name))
    if service is None or "endpointslices" in evidence.unseen:
        return
    if _available(evidence) and not _endpoints(evidence):
        selector = ",".join(f"{key}={value}" for key, value in (service["spec"].get("selector") or {}).items())
        yield Finding(
            "service",
            "NoEndpoints",
            f"Service {evidence.name} has no ready endpoints, although pods are available",
            f"check that its selector matches them: kubectl get pods -n {evidence.namespace} -l {selector}",
        )
    balancer = service.get("status", {}).get("loadBalancer", {}).get("ingress")
    if service["spec"].get("type") == "LoadBalancer" and not balancer:
        yield Finding(
            "service",
            "AddressPending",
            f"Service {evidence.name} has no external address yet",
            "check that the cluster has a controller for load balancers, and check the Service's Events",
            note=True,
        )


def service_summary(evidence: Evidence) -> tuple[State, str]:
    """Return the state of the Service, with a message."""
    if ("Service", evidence.name) not in evidence.objects:
        return ("unknown" if "services" in evidence.unseen else "wrong"), "Service not found"
    if "endpointslices" in evidence.unseen:
        return "unknown", "endpoints could not be read"
    count = _endpoints(evidence)
    deployment = evidence.objects.get(("Deployment", evidence.name), {})
    if not count and deployment.get("spec", {}).get("replicas") == 0:
        return "ok", "no ready endpoints, because 0 replicas are desired"
    return ("ok" if count else "wrong"), f"ready endpoints: {count}" if count else "no ready endpoints"


def _available(evidence: Evidence) -> bool:
    deployment = evidence.objects.get(("Deployment", evidence.name), {})
    return bool(deployment.get("status", {}).get("availableReplicas"))


def _endpoints(evidence: Evidence) -> int:
    endpoints = [each for part in evidence.slices for each in part.get("endpoints") or []]
    return sum(bool((each.get("conditions") or {}).get("ready", True)) for each in endpoints)
