"""Who reaches an agent, and whom it reaches: Service, Ingress, HTTPRoute, limits, client keys, network policy."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.core_v1 import DNS_LABEL, DNS_SUBDOMAIN, SET, Annotations, DataKey, ObjectName
from agent_operator.api.kubernetes.core import ATOMIC, AsWritten, NetworkPolicyEgressRule, NetworkPolicyPeer
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
_Origin = Annotated[
    str, StringConstraints(pattern=r"^(\*|https?://[A-Za-z0-9\[][A-Za-z0-9.:\]-]*)$", min_length=1, max_length=253)
]
_Network = Annotated[
    str,
    StringConstraints(
        pattern=r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)(/[0-9]{1,3})?$", max_length=64
    ),
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


class Auth(Model):
    """Client keys of the agent API: who may call it."""

    enabled: bool = False
    """Whether callers must show a key (`Authorization: Bearer` or `X-API-Key`). If so and no `existingSecret` is named,
    one key is generated, and kept, in the Secret `<agent>-client-keys`."""
    existing_secret: ObjectName | None = None
    """Name of a Secret of the same namespace with the keys. A changed Secret is used with no restart."""
    secret_key: DataKey = "API_KEYS"  # noqa: S105  the name of a key in a Secret, not its value
    """Key inside that Secret; its value is one or more client keys, separated by commas or line ends."""


class RateLimit(Model):
    """How much is taken from clients, counted in Redis over all pods."""

    requests_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """Most requests of one client in a minute; 0 is no limit."""
    tokens_per_minute: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """Most tokens of the whole agent in a minute; 0 is no limit."""
    trusted_proxies: Annotated[list[_Network], Field(max_length=32, json_schema_extra=SET)] | None = None
    """Addresses or networks of the proxies in front, such as 10.0.0.0/8. Only from them `X-Forwarded-For` is believed;
    without it all clients behind an Ingress count as one."""


class Cors(Model):
    """Which web pages may call the agent API from a browser."""

    rules = (
        Rule(
            cel="!self.allowCredentials || !has(self.origins) || !('*' in self.origins)",
            message="cors.allowCredentials cannot go with the origin *: name the origins",
            holds=lambda cors: not cors.allow_credentials or "*" not in (cors.origins or []),
            field="origins",
        ),
    )

    origins: Annotated[list[_Origin], Field(max_length=32, json_schema_extra=SET)] | None = None
    """Origins of the pages, such as https://app.example.com, or * for all; none when not set."""
    allow_credentials: bool = False
    """Whether the pages may send cookies and keys that the browser keeps."""


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
