"""The form that all objects share: plain dictionaries that look like their YAML, with nothing empty in them."""

from typing import Any

from agent_operator.manifests.labels import Component, object_labels

Document = dict[str, Any]


def metadata(
    agent: str, namespace: str, managed_by: str, *, own_name: str | None = None, component: Component = "api"
) -> Document:
    """The metadata of an agent's object, which bears the agent's name if it has none of its own."""
    labels = object_labels(agent, managed_by, component)
    return {"name": own_name or agent, "namespace": namespace, "labels": labels}


def without_empty(mapping: Document) -> Document:
    """The mapping without members that are None, an empty list or an empty mapping.

    Server-side apply keeps no empty map or list, so an object that had one would never equal what was applied.
    Only the members themselves are looked at: what is inside is the caller's.
    """
    return {key: value for key, value in mapping.items() if value is not None and value not in ([], {})}
