"""The ServiceAccount of the pods."""

from agent_operator.api.agent import AgentDeployment
from agent_operator.manifests.document import Document, metadata, without_empty


def account_name(agent: AgentDeployment) -> str | None:
    """Return the name of the pods' ServiceAccount; None for the namespace's `default`."""
    given = agent.spec.service_account.name
    return given or agent.name if agent.spec.service_account.create else given


def service_account(agent: AgentDeployment) -> Document | None:
    """Return the ServiceAccount of the agent, or None if it is not to be created. No pod gets a token of it."""
    if not agent.spec.service_account.create:
        return None
    annotations = dict(agent.spec.service_account.annotations or {})
    own = metadata(agent, own_name=account_name(agent))
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": without_empty(own | {"annotations": annotations}),
        "automountServiceAccountToken": False,
    }
