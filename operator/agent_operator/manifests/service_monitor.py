"""The ServiceMonitor (monitoring.coreos.com/v1), with which prometheus-operator configures scraping of the agent."""

from agent_operator.api.agent import AgentDeployment
from agent_operator.manifests.document import Document, metadata, without_empty
from agent_operator.manifests.labels import agent_selector
from agent_operator.manifests.names import METRICS_PATH, METRICS_PORT_NAME


def service_monitor(agent: AgentDeployment) -> Document | None:
    """Return the ServiceMonitor of the agent's pods and workers, or None if it is disabled."""
    monitor = agent.spec.monitoring.service_monitor
    if not monitor.enabled:
        return None
    own = metadata(agent)
    endpoint = {
        # A port of the pods. No Service has it, because a load balancer would expose it.
        "targetPort": METRICS_PORT_NAME,
        "path": METRICS_PATH,
        "interval": monitor.interval,
        "scrapeTimeout": monitor.scrape_timeout,
    }
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": own | {"labels": {**(monitor.labels or {}), **own["labels"]}},
        "spec": {"selector": {"matchLabels": agent_selector(agent.name)}, "endpoints": [without_empty(endpoint)]},
    }
