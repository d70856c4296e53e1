"""The Secret of the client keys that Portside generates for the agent API (`auth.enabled`, no `existingSecret`)."""

import secrets

from agent_operator.api.agent import AgentDeployment
from agent_operator.manifests.document import Document, metadata

# The key in the Secret, which is also the name of its file in the pods.
KEYS = "API_KEYS"


def client_keys_name(agent: str) -> str:
    """Return the name of the Secret."""
    return f"{agent}-client-keys"


def client_keys(agent: AgentDeployment) -> Document | None:
    """Return the Secret for the client keys without keys, which are generated once and kept; None if not needed."""
    if not agent.spec.auth.enabled or agent.spec.auth.existing_secret is not None:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(agent, own_name=client_keys_name(agent.name)),
        "type": "Opaque",
    }


def with_key(document: Document, key: str) -> Document:
    """Return the Secret with this key, or with these keys separated by commas."""
    return {**document, "stringData": {KEYS: key}}


def new_key() -> str:
    """Return a new client key: 256 random bits, in characters that are allowed in a header."""
    return secrets.token_urlsafe(32)


def is_client_keys(document: Document, agent: str) -> bool:
    """Return whether the document is the Secret of an agent's generated keys."""
    return bool(document["kind"] == "Secret" and document["metadata"]["name"] == client_keys_name(agent))
