"""The Ingress (networking.k8s.io/v1) that exposes the agent outside the cluster."""

from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.document import Document, metadata, without_empty
from agent_operator.manifests.names import PORT_NAME


def ingress(name: str, namespace: str, spec: AgentSpec, managed_by: str) -> Document | None:
    """Return the Ingress of the agent, or None if it is disabled."""
    wanted = spec.ingress
    if not wanted.enabled:
        return None
    path = {
        "path": wanted.path,
        "pathType": wanted.path_type,
        "backend": {"service": {"name": name, "port": {"name": PORT_NAME}}},
    }
    hosts = list(wanted.hosts or [])
    rules = [{"host": host, "http": {"paths": [path]}} for host in hosts] or [{"http": {"paths": [path]}}]
    tls = without_empty({"secretName": wanted.tls_secret_name, "hosts": hosts}) if wanted.tls_secret_name else None
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": without_empty(
            metadata(name, namespace, managed_by) | {"annotations": dict(wanted.annotations or {})}
        ),
        "spec": without_empty(
            {
                "ingressClassName": wanted.class_name,
                "rules": rules,
                "tls": [tls] if tls is not None else None,
            }
        ),
    }
