"""Which step of a workload identity fails, by the pod's own response at /health, and what to do. Pure."""

from typing import Any

from agent_operator.manifests.document import Document
from agent_operator.tools.doctor.evidence import Health
from agent_operator.tools.doctor.redact import masked

_BLOCK = "agent.credentials.workloadIdentity"

# The kinds of agent_service/agent/identity/failures.py, in the order of the chain, and that of an unknown model.
STEPS: dict[str, tuple[str, str]] = {
    "no_identity_token": (
        "IdentityTokenMissing",
        "check the events of the pod and the volume secrets: the kubelet requests the token from the API server",
    ),
    "identity_token_expired": (
        "IdentityTokenExpired",
        "check the clock of the node, and that its kubelet reaches the API server, from which it renews the token",
    ),
    "clock_off": ("ClockOff", "synchronize the clock of the pod's node (chrony or systemd-timesyncd)"),
    "issuer_refused": (
        "IdentityIssuerRefused",
        (
            "register the cluster's issuer with the provider: kubectl get --raw /.well-known/openid-configuration "
            "shows it; it and its keys must be reachable from the Internet, or be uploaded"
        ),
    ),
    "audience_refused": (
        "IdentityAudienceRefused",
        f"register the token's audience with the provider, or set {_BLOCK}.audience to the one that is registered",
    ),
    "identity_not_trusted": (
        "IdentityNotTrusted",
        (
            "allow the subject system:serviceaccount:NAMESPACE:NAME of the pods' ServiceAccount in the trust policy of "
            f"the role or account in {_BLOCK}"
        ),
    ),
    "identity_refused": (
        "IdentityRefused",
        f"check the fields of {_BLOCK}; the agent's log has the answer of the token service",
    ),
    "model_not_found": (
        "ModelNotFound",
        "check agent.model, the region, and modelIds in the provider's block: the model must be enabled there",
    ),
}


def step_of(health: Health | None) -> tuple[str, str, str] | None:
    """Return the reason, the pod's own sentence and the remedy, if the pod reports such a step; None otherwise."""
    return None if health is None else step_of_component(model_api(health))


def step_of_component(state: Document) -> tuple[str, str, str] | None:
    """Return the same for the component `model_api` of a response."""
    kind = state.get("kind")
    if state.get("status") != "down" or not isinstance(kind, str) or kind not in STEPS:
        return None
    reason, remedy = STEPS[kind]
    return reason, masked(str(state.get("detail", ""))).rstrip("."), remedy


def model_api(health: Health) -> Document:
    """Return the component `model_api` of a response; empty if there is none."""
    found: Any = ((health.components or {}).get("components") or {}).get("model_api")
    return found if isinstance(found, dict) else {}
