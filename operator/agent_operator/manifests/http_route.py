"""The HTTPRoute (gateway.networking.k8s.io/v1) that exposes the agent outside the cluster."""

from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.document import Document, metadata, without_empty
from agent_operator.manifests.pod import GRACE_BEYOND_ANSWER_SECONDS


def http_route(name: str, namespace: str, spec: AgentSpec, managed_by: str) -> Document | None:
    """Return the HTTPRoute of the agent, or None if it is disabled."""
    route = spec.http_route
    if not route.enabled:
        return None
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "backendRefs": [{"name": name, "port": spec.service.port}],
        # A Gateway's own timeout is often shorter than an answer of the model, and cuts streams off (GEP-1742).
        "timeouts": {"request": f"{spec.agent.longest_answer_seconds + GRACE_BEYOND_ANSWER_SECONDS}s"},
    }
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": without_empty(
            metadata(name, namespace, managed_by) | {"annotations": dict(route.annotations or {})}
        ),
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
