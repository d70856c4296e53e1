"""The Secret with the client keys of the agent API, where Portside makes them (`auth.enabled`, no `existingSecret`)."""

import secrets

from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.document import Document, metadata

# The key in the Secret, which is also the name of its file in the pods.
KEYS = "API_KEYS"


def client_keys_name(agent: str) -> str:
    """The name of the Secret."""
    return f"{agent}-client-keys"


def client_keys(name: str, namespace: str, spec: AgentSpec, managed_by: str) -> Document | None:
    """The Secret of the agent's client keys, without any, as they are made once and kept; None when it has none."""
    if not spec.auth.enabled or spec.auth.existing_secret is not None:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(name, namespace, managed_by, own_name=client_keys_name(name)),
        "type": "Opaque",
    }


def with_key(document: Document, key: str) -> Document:
    """The Secret with this key, or these keys separated by commas."""
    return {**document, "stringData": {KEYS: key}}


def new_key() -> str:
    """A new client key: 256 bits of chance, in characters that a header can carry."""
    return secrets.token_urlsafe(32)


def is_client_keys(document: Document, agent: str) -> bool:
    """Whether the document is the Secret of an agent's generated keys."""
    return bool(document["kind"] == "Secret" and document["metadata"]["name"] == client_keys_name(agent))
