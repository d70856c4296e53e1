"""The form that all objects share: plain dictionaries that look like their YAML, with nothing empty in them."""

from typing import Any

from agent_operator.manifests.labels import object_labels

Document = dict[str, Any]


def metadata(name: str, namespace: str, managed_by: str) -> Document:
    """The metadata of an agent's object."""
    return {"name": name, "namespace": namespace, "labels": object_labels(name, managed_by)}


def without_empty(mapping: Document) -> Document:
    """The mapping without members that are None, an empty list or an empty mapping.

    Server-side apply keeps no empty map or list, so an object that had one would never equal what was applied.
    Only the members themselves are looked at: what is inside is the caller's.
    """
    return {key: value for key, value in mapping.items() if value is not None and value not in ([], {})}
