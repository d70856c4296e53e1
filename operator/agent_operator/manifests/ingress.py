"""The Ingress (networking.k8s.io/v1) that exposes the agent outside the cluster."""

from agent_operator.api.agent import AgentDeployment
from agent_operator.manifests.document import Document, metadata, without_empty
from agent_operator.manifests.names import PORT_NAME


def ingress(agent: AgentDeployment) -> Document | None:
    """Return the Ingress of the agent, or None if it is disabled."""
    wanted = agent.spec.ingress
    if not wanted.enabled:
        return None
    path = {
        "path": wanted.path,
        "pathType": wanted.path_type,
        "backend": {"service": {"name": agent.name, "port": {"name": PORT_NAME}}},
    }
    hosts = list(wanted.hosts or [])
    rules = [{"host": host, "http": {"paths": [path]}} for host in hosts] or [{"http": {"paths": [path]}}]
    tls = without_empty({"secretName": wanted.tls_secret_name, "hosts": hosts}) if wanted.tls_secret_name else None
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": without_empty(metadata(agent) | {"annotations": dict(wanted.annotations or {})}),
        "spec": without_empty(
            {
                "ingressClassName": wanted.class_name,
                "rules": rules,
                "tls": [tls] if tls is not None else None,
            }
        ),
    }
