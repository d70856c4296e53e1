"""Networking of an agent: Service, Ingress, HTTPRoute and NetworkPolicy."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.core_v1 import DNS_LABEL, DNS_SUBDOMAIN, QUALIFIED_NAME, Annotations, ObjectName
from agent_operator.api.kubernetes.networking import NetworkPolicyEgressRule, NetworkPolicyPeer
from agent_operator.api.kubernetes.part import ATOMIC, SET, AsWritten

Port = Annotated[int, Field(ge=1, le=65535)]
# Gateway API, Hostname; Kubernetes, IngressRule.host: a DNS name, whose first label may be a wildcard.
HostName = Annotated[
    str,
    StringConstraints(
        pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        max_length=253,
        min_length=1,
    ),
]
HttpAddress = Annotated[
    str, StringConstraints(pattern=r"^https?://[A-Za-z0-9\[][A-Za-z0-9.:\]-]*(/[!-~]*)?$", max_length=2048)
]
_Peer = Annotated[dict[str, Any], AsWritten(NetworkPolicyPeer)]
_Egress = Annotated[dict[str, Any], AsWritten(NetworkPolicyEgressRule)]


class Service(Model):
    """The Service in front of the agent's pods."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """How the Service is exposed: `ClusterIP` (inside the cluster), `NodePort` or `LoadBalancer`."""
    port: Port = 80
    """Port of the Service."""
    annotations: Annotations | None = None
    """Annotations of the Service, such as those that load balancers read."""
    app_protocol: Annotated[str, StringConstraints(pattern=QUALIFIED_NAME, min_length=1, max_length=253)] | None = None
    """Application protocol of the port, for gateways that read it, such as `kgateway.dev/a2a`. Several gateways
    refuse routes to a Service whose value they do not know."""


class Ingress(Model):
    """An Ingress that exposes the agent outside the cluster."""

    enabled: bool = False
    """Whether an Ingress is created."""
    class_name: ObjectName | None = None
    """IngressClass of the Ingress. Defaults to the default class of the cluster."""
    annotations: Annotations | None = None
    """Annotations of the Ingress. Configure the proxy to neither buffer responses nor cut off idle ones; otherwise
    streams break."""
    hosts: Annotated[list[HostName], Field(max_length=16, json_schema_extra=SET)] | None = None
    """Host names under which the agent is reached. If unset, every host name matches."""
    path: Annotated[str, StringConstraints(pattern=r"^/[!-~]*$", min_length=1, max_length=1024)] = "/"
    """Path under which the agent is reached."""
    path_type: Literal["Prefix", "Exact", "ImplementationSpecific"] = "Prefix"
    """How the path is matched."""
    tls_secret_name: ObjectName | None = None
    """Name of the Secret that contains the certificate for the hosts. If unset, the Ingress does not use TLS."""


class ParentReference(Model):
    """A Gateway that the route attaches to."""

    name: ObjectName
    """Name of the Gateway."""
    namespace: Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=63)] | None = None
    """Namespace of the Gateway. Defaults to the agent's namespace."""
    section_name: Annotated[str, StringConstraints(pattern=DNS_SUBDOMAIN, min_length=1, max_length=253)] | None = None
    """Name of a listener of the Gateway. If unset, the route attaches to all matching listeners."""


class HttpRoute(Model):
    """An HTTPRoute of the Gateway API that exposes the agent outside the cluster."""

    enabled: bool = False
    """Whether an HTTPRoute is created. The cluster needs the Gateway API (gateway.networking.k8s.io/v1)."""
    annotations: Annotations | None = None
    """Annotations of the HTTPRoute."""
    parent_refs: Annotated[list[ParentReference], Field(max_length=16, json_schema_extra=ATOMIC)] | None = None
    """Gateways that the route attaches to."""
    hostnames: Annotated[list[HostName], Field(max_length=16, json_schema_extra=SET)] | None = None
    """Host names under which the agent is reached. Defaults to those of the Gateway."""


class NetworkPolicy(Model):
    """What may reach the agent's pods, and what they may reach. Requires a network plugin that enforces
    NetworkPolicies."""

    enabled: bool = True
    """Whether a NetworkPolicy is created. It allows ingress for scrapes and for requests to the API's port. It
    allows egress for DNS and to the ports of the model API, of Redis and of the trace collector."""
    ingress_from: Annotated[list[_Peer], Field(max_length=16, json_schema_extra=ATOMIC)] | None = None
    """Peers that may send requests, in the form of `from` in networking.k8s.io/v1. If unset, all peers may."""
    scrape_from: Annotated[list[_Peer], Field(max_length=16, json_schema_extra=ATOMIC)] | None = None
    """Peers that may read the metrics (port 9090), in the form of `from` in networking.k8s.io/v1. Defaults to all
    pods of the cluster. With a `budget`, the operator must be one of them."""
    redis_port: Port | None = None
    """Port of Redis, if the address is in a Secret and the port is not 6379."""
    extra_egress: Annotated[list[_Egress], Field(max_length=16, json_schema_extra=ATOMIC)] | None = None
    """Additional egress rules for the pods, in the form of `egress` in networking.k8s.io/v1."""
