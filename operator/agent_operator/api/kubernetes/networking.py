"""Peers and rules of a NetworkPolicy (Kubernetes API reference: networking.k8s.io/v1)."""

from typing import Annotated

from pydantic import Field

from agent_operator.api.kubernetes.core import LabelSelector
from agent_operator.api.kubernetes.part import Number, NumberOrText, Part, Text, Texts, listed


class IPBlock(Part):
    """A range of addresses."""

    cidr: Text
    """The range, such as 10.0.0.0/8."""
    except_: Texts | None = Field(default=None, alias="except")
    """Ranges in it that are left out."""


class NetworkPolicyPeer(Part):
    """Who is let in, or out to."""

    ip_block: IPBlock | None = None
    """A range of addresses."""
    namespace_selector: LabelSelector | None = None
    """Namespaces, by their labels."""
    pod_selector: LabelSelector | None = None
    """Pods, by their labels."""


class NetworkPolicyPort(Part):
    """A port, or several."""

    port: NumberOrText | None = None
    """Number or name of the port."""
    end_port: Number | None = None
    """Last number, where there are several."""
    protocol: Text | None = None
    """`TCP`, `UDP` or `SCTP`."""


class NetworkPolicyEgressRule(Part):
    """What the pods may reach."""

    ports: Annotated[list[NetworkPolicyPort], listed()] | None = None
    """Which ports; all when not set."""
    to: Annotated[list[NetworkPolicyPeer], listed()] | None = None
    """Whom; everybody when not set."""
