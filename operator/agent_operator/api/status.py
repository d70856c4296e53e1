"""`AgentDeployment.status`: what the operator saw last (Kubernetes API conventions: "Typical status properties")."""

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


# One text, because a column of `kubectl get` shows one field.
ReadyOfDesired = Annotated[str, StringConstraints(pattern=r"^[0-9]+/[0-9]+$", max_length=32)]


class Condition(Model):
    """One judgement about the agent, in the standard form of metav1.Condition."""

    type: Literal[
        "Ready", "Progressing", "Degraded", "ScalingActive", "WithinBudget", "DependenciesReachable", "Drifted"
    ]
    """What is judged."""
    status: Literal["True", "False", "Unknown"]
    """The judgement."""
    observed_generation: Count
    """Generation of the spec that was judged."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When the status last changed from one value to another."""
    reason: Reason
    """Why, in one word for programs."""
    message: Annotated[str, StringConstraints(max_length=MAX_MESSAGE)]
    """Why, in words for people."""


class BudgetStatus(Model):
    """How the agent keeps to its budget."""

    used_percent: Count
    """How much of the budget of this day or month is used, in percent."""


class AgentStatus(Model):
    """What the operator saw last. Written by the operator alone."""

    observed_generation: Count | None = None
    """Generation of the spec that this status is about."""
    replicas: Count | None = None
    """Pods that exist, of any revision."""
    ready_replicas: Count | None = None
    """Pods that take requests."""
    pods_ready: ReadyOfDesired | None = None
    """Pods that are ready, of those that are wanted now, such as `1/2`."""
    workers_ready: ReadyOfDesired | None = None
    """The same of the agent's workers."""
    selector: Text | None = None
    """Label selector of the pods, as text, for the scale subresource."""
    url: Text | None = None
    """Address of the agent inside the cluster."""
    model: Text | None = None
    """What answers: the model's id, or `echo` where the message itself is the answer."""
    image: Text | None = None
    """Image that the pods are to run."""
    budget: BudgetStatus | None = None
    """What is used of the budget."""
    conditions: (
        Annotated[
            list[Condition],
            Field(
                max_length=8,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
            ),
        ]
        | None
    ) = None
    """Ready, Progressing and Degraded; ScalingActive where an autoscaler has the say, WithinBudget where there is a
    budget, DependenciesReachable where pods report on their dependencies, Drifted where changes of others stay."""
