"""The classes of the cluster, as far as the user may read them."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from agent_operator.api.agent import AgentDeployment
from agent_operator.classes.choice import Applied, Classes, Refusal, apply_class, classes_of
from agent_operator.kube.errors import ApiError
from agent_operator.kube.reader import Reader
from agent_operator.kube.resources import AGENT_CLASS

UNKNOWN = "ClassUnknown"


async def in_cluster(cluster: Reader) -> Classes | None:
    """Return the classes of the cluster; None if the user may not list them. Raises ApiError and UnreachableError."""
    if not await cluster.is_served(AGENT_CLASS):
        return Classes()
    try:
        return classes_of(await cluster.list(AGENT_CLASS, None))
    except ApiError as error:
        if error.code != HTTPStatus.FORBIDDEN:
            raise
        return None


def applied(agent: AgentDeployment, classes: Classes | None, status: Mapping[str, Any]) -> Applied:
    """Return the agent with its class.

    If the user may not read the classes, the agent's `status` has the name of the one that the operator applied.
    """
    if classes is not None:
        return apply_class(agent, classes)
    name = agent.spec.class_name or status.get("className")
    if name is None:
        return Applied(agent)
    sentence = (
        f"The agent has the class {name}, and you do not have permission to list {AGENT_CLASS.plural}: "
        "request it, or specify a file that contains the class with --class"
    )
    return Applied(agent, name, refusal=Refusal(UNKNOWN, sentence))
