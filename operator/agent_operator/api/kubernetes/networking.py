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
    """Ranges inside it that are excluded."""


class NetworkPolicyPeer(Part):
    """A peer of the allowed traffic."""

    ip_block: IPBlock | None = None
    """A range of addresses."""
    namespace_selector: LabelSelector | None = None
    """Namespaces, by their labels."""
    pod_selector: LabelSelector | None = None
    """Pods, by their labels."""


class NetworkPolicyPort(Part):
    """A port, or a range of ports."""

    port: NumberOrText | None = None
    """Number or name of the port."""
    end_port: Number | None = None
    """Last number of the range, if there are several ports."""
    protocol: Text | None = None
    """Protocol of the port: `TCP`, `UDP` or `SCTP`."""


class NetworkPolicyEgressRule(Part):
    """What the pods may reach."""

    ports: Annotated[list[NetworkPolicyPort], listed()] | None = None
    """Allowed ports. If unset, all ports are allowed."""
    to: Annotated[list[NetworkPolicyPeer], listed()] | None = None
    """Allowed peers. If unset, all peers are allowed."""
