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
    """The labels by which all that is the agent's is found."""
    return {NAME: PRODUCT, INSTANCE: agent}


def selector(agent: str, component: Component = "api") -> dict[str, str]:
    """The labels by which the pods of a component are found. A Deployment's selector can never change."""
    return {**agent_selector(agent), f"{PREFIX}/component": component}


def pod_labels(agent: str, component: Component = "api") -> dict[str, str]:
    """The labels of the pods: no version or manager, so that an upgrade or adoption does not replace them."""
    return selector(agent, component) | {f"{PREFIX}/part-of": "portside"}


def object_labels(agent: str, managed_by: str, component: Component = "api") -> dict[str, str]:
    """The labels of every object of an agent."""
    return pod_labels(agent, component) | {f"{PREFIX}/version": __version__, MANAGED_BY: managed_by}
