"""Client keys that are generated: one is made once and kept; another comes when the user asks for it."""

from collections.abc import Callable, Mapping, Sequence

from agent_operator.controller.reconcile.steps import Name
from agent_operator.manifests.client_keys import KEYS, is_client_keys, with_key
from agent_operator.manifests.document import Document
from agent_operator.manifests.names import ANNOTATION_PREFIX

# On an AgentDeployment: any new value makes a new key.
ROTATE = f"{ANNOTATION_PREFIX}/rotate-client-keys"
# On the Secret: the value for which its first key was made.
ROTATED = f"{ANNOTATION_PREFIX}/rotated-client-keys"


def with_settled_keys(
    agent: Document, wanted: Sequence[Document], observed: Mapping[Name, Document], new_key: Callable[[], str]
) -> list[Document]:
    """The objects of the `AgentDeployment`, those of client keys with the keys that they have or shall get."""
    metadata = agent["metadata"]
    request = (metadata.get("annotations") or {}).get(ROTATE, "")
    return [
        settled(each, observed.get((each["kind"], each["metadata"]["name"])), request, new_key)
        if is_client_keys(each, metadata["name"])
        else each
        for each in wanted
    ]


def settled(wanted: Document, found: Document | None, request: str, new_key: Callable[[], str]) -> Document:
    """The Secret of client keys as it should be: with the keys that it has, or with a new one before them.

    `found` is the Secret as it is, with its content under `stringData`. `request` is what the user wrote last to have
    another key; empty when never. After that the key before is still good, so that clients can change over, and goes
    with the next request.
    """
    keys = ((found or {}).get("stringData") or {}).get(KEYS, "")
    rotated = (((found or {}).get("metadata") or {}).get("annotations") or {}).get(ROTATED, "")
    if not keys:
        keys = new_key()
    elif request not in {"", rotated}:
        keys = f"{new_key()},{keys.split(',')[0]}"
    return _marked(with_key(wanted, keys), request or rotated)


def _marked(document: Document, request: str) -> Document:
    if not request:
        return document
    metadata = document["metadata"]
    return {**document, "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), ROTATED: request}}}
