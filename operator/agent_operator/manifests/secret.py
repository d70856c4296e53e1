"""The Secret for a key that the spec itself contains (`apiKey.value`)."""

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import SECRET_KEY, AgentSpec
from agent_operator.manifests.document import Document, metadata


def inline_secrets(spec: AgentSpec) -> dict[str, str]:
    """Return the secrets in the spec itself, by file name; empty if it refers to the user's Secret."""
    return {SECRET_KEY: spec.api_key.value} if spec.api_key.value is not None else {}


def secret(agent: AgentDeployment) -> Document | None:
    """Return the Secret of the agent, or None if the spec contains no secret."""
    inline = inline_secrets(agent.spec)
    if not inline:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(agent),
        "type": "Opaque",
        "stringData": inline,
    }
