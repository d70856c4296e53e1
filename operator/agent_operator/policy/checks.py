"""The checks of a policy: each field that lets a tenant reach further than a Deployment does, and what allows it.

Each check is data. `refusals` reads it in Python and `admission` writes it as CEL, so that the operator and the API
server refuse the same specs.
"""

from dataclasses import dataclass
from typing import Any

# Values of a field that is present but has no effect.
NOTHING: tuple[Any, ...] = (None, [], {}, "")


@dataclass(frozen=True)
class Is:
    """Refuse these values unless the setting is true."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class IsNot:
    """Refuse a value that is present and not one of these, unless the setting is true."""

    values: tuple[Any, ...] = NOTHING


@dataclass(frozen=True)
class ValueListed:
    """Refuse a value that matches no entry of the setting."""


@dataclass(frozen=True)
class KeysListed:
    """Refuse keys that match no entry of the setting, except those in `besides`."""

    besides: tuple[str, ...] = ()


@dataclass(frozen=True)
class PortListed:
    """Refuse an address whose port is not in the setting."""


Test = Is | IsNot | ValueListed | KeysListed | PortListed


@dataclass(frozen=True)
class When:
    """Apply a check only while another field has this value."""

    path: str
    value: Any


@dataclass(frozen=True)
class Check:
    """A check of one field.

    `path` is relative to `spec`; its first `[]` denotes a list of named entries, a later one any list. `setting` is the
    setting in `policies.allow` that permits the field, and `sentence` describes what is refused.
    """

    setting: str
    path: str
    test: Test
    sentence: str
    when: When | None = None

    @property
    def explanation(self) -> str:
        """The text that follows the field in a message."""
        return f"{self.sentence} (policies.allow.{self.setting})"

    @property
    def segments(self) -> list[str]:
        """The segments of the path."""
        return self.path.split(".")


_POLICY_ON = When("networkPolicy.enabled", True)
_BUDGET_ON = When("podDisruptionBudget.enabled", True)
_ANNOTATION = "this annotation is not allowed by the operator's policy"
_PORT = "allows egress to any address on a port that the operator's policy does not list"
_PORT_OF_TOOL = "allows egress on a port that the operator's policy does not list"
_PRIVILEGE = "is a privilege that the operator's policy does not allow"
_TOKEN = "ServiceAccount credentials in volumes are not allowed by the operator's policy"  # noqa: S105  a sentence
_DRAIN = "can prevent nodes from being drained, which the operator's policy does not allow"


def _privileges() -> list[Check]:
    both: dict[str, Test] = {
        "securityContext.seLinuxOptions": IsNot(),
        "securityContext.seccompProfile.type": Is(("Unconfined",)),
        "securityContext.appArmorProfile.type": Is(("Unconfined",)),
        "securityContext.windowsOptions.hostProcess": Is((True,)),
    }
    of_container: dict[str, Test] = both | {
        "securityContext.privileged": Is((True,)),
        # The restricted Pod Security Standard allows this capability, for privileged ports.
        "securityContext.capabilities.add[]": IsNot(("NET_BIND_SERVICE",)),
        "securityContext.procMount": IsNot((*NOTHING, "Default")),
    }
    # The kubelet sends these requests from the node's network.
    by_kubelet: dict[str, Test] = {
        f"{parent}.{action}.host": IsNot()
        for parent in ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle.postStart", "lifecycle.preStop")
        for action in ("httpGet", "tcpSocket")
    }
    of_other: dict[str, Test] = of_container | by_kubelet | {"ports[].hostPort": IsNot((None, 0))}
    paths = {
        **{path.replace("securityContext", "podSecurityContext"): test for path, test in both.items()},
        "podSecurityContext.sysctls": IsNot(),
        **of_container,
        **{f"runtime.{path}": test for path, test in of_container.items()},
        **{f"tools[].mcp.sidecar.{path}": test for path, test in of_container.items()},
        **{f"sidecars[].{path}": test for path, test in of_other.items()},
        **{f"initContainers[].{path}": test for path, test in of_other.items()},
    }
    return [Check("privileges", path, test, _PRIVILEGE) for path, test in paths.items()]


CHECKS: tuple[Check, ...] = (
    Check("ingresses", "ingress.enabled", Is((True,)), "an Ingress is not allowed by the operator's policy"),
    Check("httpRoutes", "httpRoute.enabled", Is((True,)), "an HTTPRoute is not allowed by the operator's policy"),
    Check(
        "loadBalancers", "service.type", Is(("LoadBalancer",)), "LoadBalancer is not allowed by the operator's policy"
    ),
    Check("nodePorts", "service.type", Is(("NodePort",)), "NodePort is not allowed by the operator's policy"),
    Check(
        "networkPolicies",
        "networkPolicy.enabled",
        Is((True,)),
        "a NetworkPolicy is not allowed by the operator's policy: set it to false",
    ),
    Check("extraEgress", "networkPolicy.extraEgress", IsNot(), "is not allowed by the operator's policy", _POLICY_ON),
    Check("egressPorts", "networkPolicy.redisPort", ValueListed(), _PORT, _POLICY_ON),
    Check("egressPorts", "agent.baseUrl", PortListed(), _PORT, _POLICY_ON),
    Check("egressPorts", "agent.bedrock.baseUrl", PortListed(), _PORT, _POLICY_ON),
    Check("egressPorts", "agent.vertex.baseUrl", PortListed(), _PORT, _POLICY_ON),
    Check("egressPorts", "agent.foundry.baseUrl", PortListed(), _PORT, _POLICY_ON),
    Check("egressPorts", "agent.credentials.workloadIdentity.tokenUrl", PortListed(), _PORT, _POLICY_ON),
    Check("egressPorts", "agent.fallbacks[].bedrock.baseUrl", PortListed(), _PORT, _POLICY_ON),
    Check("egressPorts", "agent.fallbacks[].vertex.baseUrl", PortListed(), _PORT, _POLICY_ON),
    Check("egressPorts", "agent.fallbacks[].foundry.baseUrl", PortListed(), _PORT, _POLICY_ON),
    Check("egressPorts", "redis.url", PortListed(), _PORT, _POLICY_ON),
    Check("egressPorts", "monitoring.tracing.endpoint", PortListed(), _PORT, _POLICY_ON),
    Check("egressPorts", "auth.jwt.issuers[].issuer", PortListed(), _PORT, _POLICY_ON),
    Check("egressPorts", "auth.jwt.issuers[].jwksUrl", PortListed(), _PORT, _POLICY_ON),
    Check("egressPorts", "tools[].mcp.url", PortListed(), _PORT_OF_TOOL, _POLICY_ON),
    Check("egressPorts", "tools[].mcp.auth.clientCredentials.tokenUrl", PortListed(), _PORT_OF_TOOL, _POLICY_ON),
    Check(
        "serviceMonitors",
        "monitoring.serviceMonitor.enabled",
        Is((True,)),
        "a ServiceMonitor is not allowed by the operator's policy",
    ),
    Check(
        "prometheusAddresses",
        "autoscaling.prometheusAddress",
        ValueListed(),
        "is an address that the operator's policy does not allow KEDA to query",
        When("autoscaling.engine", "keda"),
    ),
    Check("drainBlocking", "podDisruptionBudget.minAvailable", IsNot((None, 0, "0%")), _DRAIN, _BUDGET_ON),
    Check("drainBlocking", "podDisruptionBudget.maxUnavailable", Is((0, "0%")), _DRAIN, _BUDGET_ON),
    Check(
        "serviceAccountNames",
        "serviceAccount.name",
        ValueListed(),
        "names a ServiceAccount that the operator's policy does not list",
    ),
    Check(
        "serviceAccountAnnotations",
        "serviceAccount.annotations",
        KeysListed(),
        _ANNOTATION,
        When("serviceAccount.create", True),
    ),
    Check("serviceAccountTokens", "extraVolumes[].projected.sources[].serviceAccountToken", IsNot((None,)), _TOKEN),
    Check("serviceAccountTokens", "extraVolumes[].projected.sources[].podCertificate", IsNot((None,)), _TOKEN),
    Check(
        "identityAudiences",
        "agent.credentials.workloadIdentity.audience",
        ValueListed(),
        "is an audience that the operator's policy does not list",
    ),
    Check("serviceAnnotations", "service.annotations", KeysListed(), _ANNOTATION),
    Check("ingressAnnotations", "ingress.annotations", KeysListed(), _ANNOTATION, When("ingress.enabled", True)),
    Check("httpRouteAnnotations", "httpRoute.annotations", KeysListed(), _ANNOTATION, When("httpRoute.enabled", True)),
    Check("podAnnotations", "podAnnotations", KeysListed(), _ANNOTATION),
    Check("podLabels", "podLabels", KeysListed(), "this label is not allowed by the operator's policy"),
    Check(
        "priorityClassNames",
        "priorityClassName",
        ValueListed(),
        "names a PriorityClass that the operator's policy does not list",
    ),
    Check(
        "volumeTypes",
        "extraVolumes[]",
        KeysListed(besides=("name",)),
        "is of a type that the operator's policy does not list",
    ),
    *_privileges(),
)
