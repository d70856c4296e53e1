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

    The agent's `status` has the name of the class that the operator applied. Where the user may not read the classes,
    and where the operator was started with its own, that class is unknown.
    """
    last = status.get("className")
    if classes is None:
        name = agent.spec.class_name or last
        why = f"you do not have permission to list {AGENT_CLASS.plural}: request it, or specify"
        return Applied(agent) if name is None else Applied(agent, name, refusal=_unknown(name, why))
    found = apply_class(agent, classes)
    if found.name in {None, last} and last is not None and last not in {*classes.valid, *classes.faults}:
        return Applied(agent, last, refusal=_unknown(last, "it is not in the cluster but in the operator: specify"))
    return found


def _unknown(name: str, why: str) -> Refusal:
    return Refusal(UNKNOWN, f"The agent has the class {name}, and {why} a file that contains the class with --class")
