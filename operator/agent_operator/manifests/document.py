"""The form of all objects: plain dictionaries with the structure of their YAML, without empty members."""

from typing import Any

from agent_operator.api.agent import AgentDeployment
from agent_operator.manifests.labels import Component, object_labels

Document = dict[str, Any]


def metadata(agent: AgentDeployment, *, own_name: str | None = None, component: Component = "api") -> Document:
    """Return the metadata of an agent's object, which has the agent's name unless it has its own name."""
    return {
        "name": own_name or agent.name,
        "namespace": agent.namespace,
        "labels": object_labels(agent.name, component),
    }


def without_empty(mapping: Document) -> Document:
    """Return the mapping without members that are None, an empty list or an empty mapping.

    Server-side apply does not keep empty maps and lists, so an object that had one would never equal what was applied.
    Only direct members are checked: their content is the caller's responsibility.
    """
    return {key: value for key, value in mapping.items() if value is not None and value not in ([], {})}
