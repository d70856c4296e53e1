"""Two states of an object as a unified diff of their YAML, without secret or irrelevant fields. Pure."""

import base64
import difflib
from collections.abc import Iterator
from typing import Any

from agent_operator.api.yaml import to_yaml
from agent_operator.controller.reconcile.plan import APPLIED_HASH
from agent_operator.manifests.document import Document, without_empty
from agent_operator.tools.diff import Change

# Fields that the API server maintains.
_SERVERS = {"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"}
# Bookkeeping; the second may contain a whole Secret.
_BOOKKEEPING = {APPLIED_HASH, "kubectl.kubernetes.io/last-applied-configuration"}


def unified(change: Change) -> str:
    """Return the change in the format of `diff -u`, or the empty text if nothing relevant would change.

    Values of Secrets are masked as in `kubectl diff`.
    """
    before, after = masked(change)
    old, new = (_lines(each) for each in (before, after))
    name = _name(before or after or {})
    lines = difflib.unified_diff(
        old, new, f"live/{name}" if before else "/dev/null", f"wanted/{name}" if after else "/dev/null"
    )
    return "".join(lines)


def masked(change: Change) -> tuple[Document | None, Document | None]:
    """Return both states in a form that may be shown."""
    before, after = (clean(each) if each is not None else None for each in (change.before, change.after))
    old, new = (_take_content(each) for each in (before, after))
    for document, content, other, mark in ((before, old, new, "before"), (after, new, old, "after")):
        if document is not None and content:
            differs = {key for key in content if key in other and content[key] != other[key]}
            document["data"] = {key: f"*** ({mark})" if key in differs else "***" for key in content}
    return before, after


def clean(document: Document) -> Document:
    """Return the object without its status and the bookkeeping of the API server and the operator."""
    metadata = {key: value for key, value in document["metadata"].items() if key not in _SERVERS}
    annotations = metadata.pop("annotations", None) or {}
    owners = metadata.pop("ownerReferences", None) or []
    metadata |= without_empty(
        {
            "annotations": {key: value for key, value in annotations.items() if key not in _BOOKKEEPING},
            "ownerReferences": [{key: each[key] for key in each if key != "uid"} for each in owners],
        }
    )
    return {key: value for key, value in document.items() if key != "status"} | {"metadata": metadata}


def _take_content(document: Document | None) -> dict[str, str]:
    """Remove and return the content of a Secret, in the form of its `data`; empty for any other object."""
    if document is None or document.get("kind") != "Secret":
        return {}
    text = document.pop("stringData", None) or {}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in text.items()}
    return {**(document.pop("data", None) or {}), **encoded}


def _name(document: Document) -> str:
    metadata = document.get("metadata", {})
    version = str(document.get("apiVersion", "")).replace("/", ".")
    return f"{version}.{document.get('kind')}.{metadata.get('namespace')}.{metadata.get('name')}"


def _lines(document: Document | None) -> list[str]:
    return [] if document is None else to_yaml(_sorted(document)).splitlines(keepends=True)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return dict(_pairs(value))
    return [_sorted(each) for each in value] if isinstance(value, list) else value


def _pairs(mapping: Document) -> Iterator[tuple[str, Any]]:
    return ((key, _sorted(mapping[key])) for key in sorted(mapping))
