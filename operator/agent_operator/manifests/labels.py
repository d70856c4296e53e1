"""Labels of an agent's objects (Kubernetes: "Recommended labels")."""

from typing import Literal

from agent_operator import __version__

Component = Literal["api", "worker"]

PREFIX = "app.kubernetes.io"
NAME = f"{PREFIX}/name"
INSTANCE = f"{PREFIX}/instance"
MANAGED_BY = f"{PREFIX}/managed-by"

PRODUCT = "portside-agent"
OPERATOR = "portside-operator"


def agent_selector(agent: str) -> dict[str, str]:
    """Return the labels that select all objects of the agent."""
    return {NAME: PRODUCT, INSTANCE: agent}


def selector(agent: str, component: Component = "api") -> dict[str, str]:
    """Return the labels that select the pods of a component. A Deployment's selector can never change."""
    return {**agent_selector(agent), f"{PREFIX}/component": component}


def pod_labels(agent: str, component: Component = "api") -> dict[str, str]:
    """Return the labels of the pods, without version and manager, so that no upgrade or adoption replaces them."""
    return selector(agent, component) | {f"{PREFIX}/part-of": "portside"}


def object_labels(agent: str, component: Component = "api") -> dict[str, str]:
    """Return the labels of every object of an agent."""
    return pod_labels(agent, component) | {f"{PREFIX}/version": __version__, MANAGED_BY: OPERATOR}
