"""The Services of the agent's pods and of its workers."""

from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.document import Document, metadata, without_empty
from agent_operator.manifests.labels import selector
from agent_operator.manifests.names import CONTAINER_PORT, PORT_NAME, worker_name


def service(name: str, namespace: str, spec: AgentSpec, managed_by: str) -> Document:
    """Return the Service of the agent."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": without_empty(
            metadata(name, namespace, managed_by) | {"annotations": dict(spec.service.annotations or {})}
        ),
        "spec": {
            "type": spec.service.type,
            "selector": selector(name),
            "ports": [{"name": PORT_NAME, "port": spec.service.port, "protocol": "TCP", "targetPort": PORT_NAME}],
        },
    }


def worker_service(name: str, namespace: str, spec: AgentSpec, managed_by: str) -> Document | None:
    """Return the Service of the workers, used only by Prometheus to discover them. None without workers."""
    if not spec.worker.enabled:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, namespace, managed_by, own_name=worker_name(name), component="worker"),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "selector": selector(name, "worker"),
            "ports": [{"name": PORT_NAME, "port": CONTAINER_PORT, "protocol": "TCP", "targetPort": PORT_NAME}],
        },
    }


def url(name: str, namespace: str, spec: AgentSpec) -> str:
    """Return the URL of the agent inside the cluster; the port is omitted if it is the default of HTTP."""
    host = f"http://{name}.{namespace}.svc"
    return host if spec.service.port == 80 else f"{host}:{spec.service.port}"  # noqa: PLR2004  HTTP's own port
