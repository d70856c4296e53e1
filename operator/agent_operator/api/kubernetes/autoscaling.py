"""The behavior of a HorizontalPodAutoscaler (Kubernetes API reference: autoscaling/v2)."""

from typing import Annotated

from agent_operator.api.kubernetes.part import Number, Part, Text, listed


class ScalingPolicy(Part):
    """How many pods may be added or removed in a period."""

    type: Text
    """Unit of the value: `Pods` or `Percent`."""
    value: Number
    """Number or percentage of pods."""
    period_seconds: Number
    """Length of the period in seconds."""


class ScalingRules(Part):
    """How fast pods are added or removed."""

    select_policy: Text | None = None
    """How the policy is selected: `Max`, `Min` or `Disabled`."""
    stabilization_window_seconds: Number | None = None
    """Seconds for which past recommendations are considered."""
    policies: Annotated[list[ScalingPolicy], listed()] | None = None
    """Policies, of which one is selected."""


class ScalingBehavior(Part):
    """How fast pods are added and removed."""

    scale_up: ScalingRules | None = None
    """How fast pods are added."""
    scale_down: ScalingRules | None = None
    """How fast pods are removed."""
