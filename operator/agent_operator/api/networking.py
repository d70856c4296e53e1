"""The network of an agent: Service, Ingress, HTTPRoute, NetworkPolicy."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.core_v1 import DNS_LABEL, DNS_SUBDOMAIN, SET, Annotations, ObjectName
from agent_operator.api.kubernetes.networking import NetworkPolicyEgressRule, NetworkPolicyPeer
from agent_operator.api.kubernetes.part import ATOMIC, AsWritten
from agent_operator.api.rules import Rule

Port = Annotated[int, Field(ge=1, le=65535)]
# Gateway API, Hostname; Kubernetes, IngressRule.host: a name, or one with a wildcard for its first label.
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
    """How the Service is reached: `ClusterIP` (inside the cluster), `NodePort` or `LoadBalancer`."""
    port: Port = 80
    """Port of the Service."""
    annotations: Annotations | None = None
    """Annotations of the Service, as load balancers read them."""


class Ingress(Model):
    """An Ingress that leads to the agent from outside the cluster."""

    enabled: bool = False
    """Whether there is one."""
    class_name: ObjectName | None = None
    """Its IngressClass; the cluster's default when not set."""
    annotations: Annotations | None = None
    """Its annotations. Let the proxy neither buffer answers nor cut silent ones, or streams break."""
    hosts: Annotated[list[HostName], Field(max_length=16, json_schema_extra=SET)] | None = None
    """Names under which the agent is reached; every name when not set."""
    path: Annotated[str, StringConstraints(pattern=r"^/[!-~]*$", min_length=1, max_length=1024)] = "/"
    """Path under which it is reached."""
    path_type: Literal["Prefix", "Exact", "ImplementationSpecific"] = "Prefix"
    """How the path is compared."""
    tls_secret_name: ObjectName | None = None
    """Secret with the certificate for the hosts; no TLS when not set."""


class ParentReference(Model):
    """A Gateway that takes the route."""

    name: ObjectName
    """Name of the Gateway."""
    namespace: Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=63)] | None = None
    """Its namespace; the agent's own when not set."""
    section_name: Annotated[str, StringConstraints(pattern=DNS_SUBDOMAIN, min_length=1, max_length=253)] | None = None
    """Which of its listeners; all that fit when not set."""


class HttpRoute(Model):
    """A route of the Gateway API that leads to the agent from outside the cluster."""

    rules = (
        Rule(
            cel="!self.enabled || (has(self.parentRefs) && self.parentRefs.size() > 0)",
            message="httpRoute.enabled needs httpRoute.parentRefs: name the Gateway that takes the route",
            holds=lambda route: not route.enabled or bool(route.parent_refs),
            field="parentRefs",
        ),
    )

    enabled: bool = False
    """Whether there is one. The cluster needs the Gateway API (gateway.networking.k8s.io/v1)."""
    annotations: Annotations | None = None
    """Its annotations."""
    parent_refs: Annotated[list[ParentReference], Field(max_length=16, json_schema_extra=ATOMIC)] | None = None
    """Gateways that take the route."""
    hostnames: Annotated[list[HostName], Field(max_length=16, json_schema_extra=SET)] | None = None
    """Names under which the agent is reached; those of the Gateway when not set."""


class NetworkPolicy(Model):
    """What may reach the agent's pods, and what they may reach. Needs a network plugin that keeps policies."""

    enabled: bool = True
    """Whether there is one: in go requests to the API's port, and scrapes; out go DNS, and what is for the ports of the
    model API, of Redis and of the collector of traces."""
    ingress_from: Annotated[list[_Peer], Field(max_length=16, json_schema_extra=ATOMIC)] | None = None
    """Who may send requests, as `from` of networking.k8s.io/v1 has it; anybody when not set."""
    scrape_from: Annotated[list[_Peer], Field(max_length=16, json_schema_extra=ATOMIC)] | None = None
    """Who may read the metrics (port 9090), as `from` of networking.k8s.io/v1 has it; any pod of the cluster when not
    set. With a `budget` the operator is one who has to."""
    redis_port: Port | None = None
    """Port of Redis, when the address is in a Secret and the port is not 6379."""
    extra_egress: Annotated[list[_Egress], Field(max_length=16, json_schema_extra=ATOMIC)] | None = None
    """Whom the pods may reach besides, as `egress` of networking.k8s.io/v1 has it."""
