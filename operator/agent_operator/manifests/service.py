"""The Services of the agent's pods and of its workers."""

from agent_operator.api.agent import AgentDeployment
from agent_operator.manifests.document import Document, metadata, without_empty
from agent_operator.manifests.labels import selector
from agent_operator.manifests.names import CONTAINER_PORT, PORT_NAME, worker_name


def service(agent: AgentDeployment) -> Document:
    """Return the Service of the agent."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": without_empty(metadata(agent) | {"annotations": dict(agent.spec.service.annotations or {})}),
        "spec": {
            "type": agent.spec.service.type,
            "selector": selector(agent.name),
            "ports": [
                without_empty(
                    {
                        "name": PORT_NAME,
                        "port": agent.spec.service.port,
                        "protocol": "TCP",
                        "targetPort": PORT_NAME,
                        "appProtocol": agent.spec.service.app_protocol,
                    }
                )
            ],
        },
    }


def worker_service(agent: AgentDeployment) -> Document | None:
    """Return the Service of the workers, used only by Prometheus to discover them. None without workers."""
    if not agent.spec.worker.enabled:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(agent, own_name=worker_name(agent.name), component="worker"),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "selector": selector(agent.name, "worker"),
            "ports": [{"name": PORT_NAME, "port": CONTAINER_PORT, "protocol": "TCP", "targetPort": PORT_NAME}],
        },
    }


def url(agent: AgentDeployment) -> str:
    """Return the URL of the agent inside the cluster; the port is omitted if it is the default of HTTP."""
    host = f"http://{agent.name}.{agent.namespace}.svc"
    return host if agent.spec.service.port == 80 else f"{host}:{agent.spec.service.port}"  # noqa: PLR2004  HTTP's own port
