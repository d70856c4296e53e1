"""The ServiceAccount of the pods."""

from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.document import Document, metadata, without_empty


def account_name(name: str, spec: AgentSpec) -> str | None:
    """Return the name of the pods' ServiceAccount; None for the namespace's `default`."""
    given = spec.service_account.name
    return given or name if spec.service_account.create else given


def service_account(name: str, namespace: str, spec: AgentSpec, managed_by: str) -> Document | None:
    """Return the ServiceAccount of the agent, or None if it is not to be created. No pod gets a token of it."""
    if not spec.service_account.create:
        return None
    annotations = dict(spec.service_account.annotations or {})
    own = metadata(name, namespace, managed_by, own_name=account_name(name, spec))
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": without_empty(own | {"annotations": annotations}),
        "automountServiceAccountToken": False,
    }
