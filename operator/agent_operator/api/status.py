"""`AgentDeployment.status`: the last observed state (Kubernetes API conventions: "Typical status properties")."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from agent_operator.api.base import Model

MAX_MESSAGE = 32_768

Count = Annotated[int, Field(ge=0)]
Text = Annotated[str, StringConstraints(max_length=4096)]
# metav1.Condition: a reason is one CamelCase word.
Reason = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", min_length=1, max_length=1024)
]


# A single string, because a column of `kubectl get` shows one field.
ReadyOfDesired = Annotated[str, StringConstraints(pattern=r"^[0-9]+/[0-9]+$", max_length=32)]


class Condition(Model):
    """A condition of the agent, in the standard form of metav1.Condition."""

    type: Literal[
        "Ready",
        "Progressing",
        "Degraded",
        "ScalingActive",
        "WithinBudget",
        "DependenciesReachable",
        "ToolsReady",
        "Drifted",
    ]
    """Type of the condition."""
    status: Literal["True", "False", "Unknown"]
    """Status of the condition."""
    observed_generation: Count
    """Generation of the spec that the condition describes."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """Time at which the status last changed from one value to another."""
    reason: Reason
    """Machine-readable reason for the status, in one word."""
    message: Annotated[str, StringConstraints(max_length=MAX_MESSAGE)]
    """Human-readable explanation of the status."""


class BudgetStatus(Model):
    """Usage of the agent's budget."""

    used_percent: Count
    """Used part of the budget of the current day or month, in percent."""


class ToolServerStatus(Model):
    """What the operator keeps of a server of tools."""

    name: Annotated[str, StringConstraints(max_length=32)]
    """Name of the entry in `tools`."""
    hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$", max_length=12)] | None = None
    """Hash of the names, descriptions and schemas of the tools that the server last listed."""
    reference: Text | None = None
    """Object that `mcp.serverRef` refers to."""
    url: Text | None = None
    """Address that the object had last. It stays in use if the object is deleted."""


class AgentStatus(Model):
    """State of the agent that the operator last observed. Only the operator writes it."""

    observed_generation: Count | None = None
    """Generation of the spec that this status describes."""
    replicas: Count | None = None
    """Number of existing pods, of any revision."""
    ready_replicas: Count | None = None
    """Number of pods that accept requests."""
    pods_ready: ReadyOfDesired | None = None
    """Number of ready pods out of the number currently desired, such as `1/2`."""
    workers_ready: ReadyOfDesired | None = None
    """Number of ready workers out of the number currently desired, such as `1/2`."""
    selector: Text | None = None
    """Label selector of the pods, as a string, for the scale subresource."""
    url: Text | None = None
    """Address of the agent inside the cluster."""
    model: Text | None = None
    """Model that answers: its ID, or `echo` if the message itself is the answer."""
    image: Text | None = None
    """Image that the pods should run."""
    class_name: Text | None = None
    """Name of the AgentClass that the agent has, named in the spec or the default one."""
    budget: BudgetStatus | None = None
    """Usage of the budget."""
    approvals_waiting: Count | None = None
    """Number of turns that wait for the approval of tool calls; only if a tool has `approve`."""
    tool_servers: (
        Annotated[
            list[ToolServerStatus],
            Field(
                max_length=32,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            ),
        ]
        | None
    ) = None
    """Servers of tools whose lists or references are known."""
    conditions: (
        Annotated[
            list[Condition],
            Field(
                max_length=16,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
            ),
        ]
        | None
    ) = None
    """Ready, Progressing and Degraded; ScalingActive if an autoscaler controls the number of pods; WithinBudget if
    there is a budget; DependenciesReachable if pods report on their dependencies; ToolsReady if tools have servers;
    Drifted if changes by other clients are left in place."""
