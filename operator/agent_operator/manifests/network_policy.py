"""The NetworkPolicy (networking.k8s.io/v1): the allowed traffic to and from the agent's pods."""

import re
from collections.abc import Iterator

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.identity import POD_IDENTITY_ADDRESS, uses_pod_identity
from agent_operator.api.providers import identity_of, place
from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.document import Document, metadata, without_empty
from agent_operator.manifests.jwt_file import jwt_addresses
from agent_operator.manifests.labels import agent_selector
from agent_operator.manifests.names import METRICS_PORT_NAME, PORT_NAME

# A policy applies after the Service's address is translated, so it must allow the port of the DNS pods. That is 5353 on
# OpenShift (docs.redhat.com, "DNS Operator").
DNS_PORTS = (53, 5353)
REDIS_PORT = 6379
ANY_POD: tuple[Document, ...] = ({"namespaceSelector": {}},)
SCHEME_PORTS = {"http": 80, "https": 443, "redis": REDIS_PORT, "rediss": REDIS_PORT}
# The scheme, and the port if the authority ends with one (RFC 3986, section 3.2.3). Leading zeros are dropped, because
# YAML would read the port as an octal number. The chart uses the same expression.
_ADDRESS = re.compile(r"^([a-z]+)://[^/?#]*?(?::0*([1-9][0-9]*)?)?(?:[/?#].*)?$", re.DOTALL)

# A host of the form service.namespace or service.namespace.svc, which another domain may follow (Kubernetes: "DNS for
# Services and Pods"). The chart uses the same expression.
_LABEL = r"([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)"
_END = r"\.?(?::[0-9]*)?(?:/.*)?$"
_IN_CLUSTER = re.compile(
    rf"^(?:http://[-a-z0-9]+\.{_LABEL}|https?://[-a-z0-9]+\.{_LABEL}\.svc(?:\.[-a-z0-9.]*)?){_END}", re.IGNORECASE
)


def network_policy(agent: AgentDeployment) -> Document | None:
    """Return the policy for all pods of the agent, or None if it is disabled."""
    policy = agent.spec.network_policy
    if not policy.enabled:
        return None
    requests = {"ports": [_tcp(PORT_NAME)], "from": [dict(peer) for peer in policy.ingress_from or []]}
    scrapes = {"ports": [_tcp(METRICS_PORT_NAME)], "from": [dict(peer) for peer in policy.scrape_from or ANY_POD]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(agent),
        "spec": {
            "podSelector": {"matchLabels": agent_selector(agent.name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [without_empty(requests), scrapes],
            "egress": [
                {"ports": _egress_ports(agent.spec)},
                *_egress_to_namespaces(agent.spec),
                *_egress_to_the_node(agent.spec),
                *(dict(rule) for rule in policy.extra_egress or []),
            ],
        },
    }


def _egress_ports(spec: AgentSpec) -> list[Document]:
    """Return the ports of DNS, the model API, its token service, Redis, traces, tools and issuers outside."""
    dns = [{"port": number, "protocol": protocol} for number in DNS_PORTS for protocol in ("UDP", "TCP")]
    tools = [port_of(address) for address in _addresses(spec) if namespace_of(address) is None]
    numbers = [*_model_ports(spec), _identity_port(spec), _redis_port(spec), _collector_port(spec), *tools]
    tcp = dict.fromkeys(number for number in numbers if number not in {None, *DNS_PORTS})
    return [*dns, *map(_tcp, tcp)]


def _egress_to_namespaces(spec: AgentSpec) -> list[Document]:
    """Return a rule for each namespace and port of a tool or issuer whose address is that of a Service."""
    found = [(namespace_of(address), port_of(address)) for address in _addresses(spec)]
    return [
        {
            "ports": [_tcp(port)],
            "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}],
        }
        for namespace, port in dict.fromkeys(found)
        if namespace is not None
    ]


def _addresses(spec: AgentSpec) -> list[str]:
    """Return the addresses of tool servers, token endpoints and issuers. A reference that is not resolved has none."""
    addresses = []
    for mcp in (tool.mcp for tool in spec.tools or [] if tool.mcp is not None):
        addresses += [mcp.url] if mcp.url is not None else []
        addresses += [mcp.auth.client_credentials.token_url] if mcp.auth is not None else []
    return addresses + jwt_addresses(spec)


def namespace_of(address: str) -> str | None:
    """Return the namespace in an address of a Service in the cluster, or None for any other address.

    A name of two parts is that of a Service over plain HTTP only: on the Internet, servers use TLS.
    """
    match = _IN_CLUSTER.match(address)
    return None if match is None else (match[1] or match[2]).lower()


def _model_ports(spec: AgentSpec) -> Iterator[int]:
    if spec.agent.provider == "echo":
        return
    for each in (spec.agent, *(spec.agent.fallbacks or [])):
        cloud = place(each)
        address = spec.agent.base_url if cloud is None else cloud.base_url
        yield SCHEME_PORTS["https"] if address is None else port_of(address)


def _identity_port(spec: AgentSpec) -> int | None:
    """Return the port of the service that exchanges the token; None if that is at the model API, or on the node."""
    identity = identity_of(spec.agent)
    if identity is None:
        return None
    if identity.token_url is not None:
        return port_of(identity.token_url)
    if spec.agent.provider == "anthropic" or uses_pod_identity(spec.agent.provider, identity):
        return None
    return SCHEME_PORTS["https"]


def _egress_to_the_node(spec: AgentSpec) -> list[Document]:
    """Return the rule for the EKS Pod Identity Agent, if it exchanges the token."""
    identity = identity_of(spec.agent)
    if identity is None or identity.token_url is not None or not uses_pod_identity(spec.agent.provider, identity):
        return []
    return [{"ports": [_tcp(SCHEME_PORTS["http"])], "to": [{"ipBlock": {"cidr": f"{POD_IDENTITY_ADDRESS}/32"}}]}]


def _redis_port(spec: AgentSpec) -> int | None:
    if not spec.redis.given:
        return None
    if spec.network_policy.redis_port is not None:
        return spec.network_policy.redis_port
    return port_of(spec.redis.url) if spec.redis.url is not None else REDIS_PORT


def _collector_port(spec: AgentSpec) -> int | None:
    return port_of(spec.monitoring.tracing.endpoint) if spec.monitoring.tracing else None


def port_of(address: str) -> int:
    """Return the port of an address in the spec, or the default port of its scheme if it has no port."""
    match = _ADDRESS.match(address)
    assert match is not None  # noqa: S101  the spec takes no other address
    return int(match[2]) if match[2] else SCHEME_PORTS[match[1]]


def _tcp(port: int | str | None) -> Document:
    return {"port": port, "protocol": "TCP"}
