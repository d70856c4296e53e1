"""Generated client keys: a key is generated once and kept, and rotated when the user requests it."""

from collections.abc import Callable, Mapping, Sequence

from agent_operator.controller.reconcile.steps import Name
from agent_operator.manifests.client_keys import KEYS, is_client_keys, with_key
from agent_operator.manifests.document import Document
from agent_operator.manifests.names import ANNOTATION_PREFIX

# On an AgentDeployment: any new value requests a new key.
ROTATE = f"{ANNOTATION_PREFIX}/rotate-client-keys"
# On the Secret: the value for which its first key was generated.
ROTATED = f"{ANNOTATION_PREFIX}/rotated-client-keys"


def with_settled_keys(
    agent: Document, wanted: Sequence[Document], observed: Mapping[Name, Document], new_key: Callable[[], str]
) -> list[Document]:
    """Return the objects of the `AgentDeployment`; Secrets of client keys have their existing or new keys."""
    metadata = agent["metadata"]
    request = (metadata.get("annotations") or {}).get(ROTATE, "")
    return [
        settled(each, observed.get((each["kind"], each["metadata"]["name"])), request, new_key)
        if is_client_keys(each, metadata["name"])
        else each
        for each in wanted
    ]


def settled(wanted: Document, found: Document | None, request: str, new_key: Callable[[], str]) -> Document:
    """Return the desired Secret of client keys: with its existing keys, or with a new key before the latest one.

    `found` is the observed Secret, with its content under `stringData`. `request` is the user's last value of the
    rotation annotation; empty if there was never one. After a rotation the previous key remains valid, so that clients
    can switch, and the next rotation removes it.
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
