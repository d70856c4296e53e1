"""The HTTPRoute (gateway.networking.k8s.io/v1) that exposes the agent outside the cluster."""

from agent_operator.api.agent import AgentDeployment
from agent_operator.manifests.document import Document, metadata, without_empty
from agent_operator.manifests.pod import GRACE_BEYOND_ANSWER_SECONDS


def http_route(agent: AgentDeployment) -> Document | None:
    """Return the HTTPRoute of the agent, or None if it is disabled."""
    route = agent.spec.http_route
    if not route.enabled:
        return None
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "backendRefs": [{"name": agent.name, "port": agent.spec.service.port}],
        # A Gateway's own timeout is often shorter than an answer of the model, and cuts streams off (GEP-1742).
        "timeouts": {"request": f"{agent.spec.agent.longest_answer_seconds + GRACE_BEYOND_ANSWER_SECONDS}s"},
    }
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": without_empty(metadata(agent) | {"annotations": dict(route.annotations or {})}),
        "spec": without_empty(
            {
                "parentRefs": [
                    parent.model_dump(by_alias=True, exclude_none=True) for parent in route.parent_refs or []
                ],
                "hostnames": list(route.hostnames or []),
                "rules": [rule],
            }
        ),
    }
