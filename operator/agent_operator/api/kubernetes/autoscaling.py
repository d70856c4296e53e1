"""The behavior of a HorizontalPodAutoscaler (Kubernetes API reference: autoscaling/v2)."""

from typing import Annotated

from agent_operator.api.kubernetes.part import Number, Part, Text, listed


class ScalingPolicy(Part):
    """How many pods may come or go in a period."""

    type: Text
    """`Pods` or `Percent`."""
    value: Number
    """How many."""
    period_seconds: Number
    """Length of the period in seconds."""


class ScalingRules(Part):
    """How fast pods come, or go."""

    select_policy: Text | None = None
    """`Max`, `Min` or `Disabled`."""
    stabilization_window_seconds: Number | None = None
    """Seconds of past recommendations that count."""
    policies: Annotated[list[ScalingPolicy], listed()] | None = None
    """Policies, of which one is selected."""


class ScalingBehavior(Part):
    """How fast pods are added and removed."""

    scale_up: ScalingRules | None = None
    """How fast they are added."""
    scale_down: ScalingRules | None = None
    """How fast they are removed."""
