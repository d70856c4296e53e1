"""The kinds that the operator works with, and their paths in the API."""

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from agent_operator.api.agent import GROUP, KIND, PLURAL, VERSION
from agent_operator.api.agent_class import CLASS_KIND, CLASS_PLURAL
from agent_operator.manifests.labels import MANAGED_BY, NAME, OPERATOR, PRODUCT


class Key(NamedTuple):
    """The key of an agent."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Resource:
    """A kind of object in the API. `selector` limits, at the server, which objects are listed and watched.

    A cluster may lack an `optional` kind: its definition is installed with another product.
    """

    kind: str
    group: str
    version: str
    plural: str
    selector: str | None = None
    optional: bool = False

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the path of the collection, of one object, or of its subresource; no namespace means all of them."""
        parts = [f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"]
        parts += [f"namespaces/{quote(namespace, safe='')}"] if namespace else []
        parts += [self.plural]
        parts += [quote(name, safe="")] if name else []
        parts += [subresource] if subresource else []
        return "/".join(parts)


_OURS = f"{MANAGED_BY}={OPERATOR}"

AGENT = Resource(KIND, GROUP, VERSION, PLURAL)
# Cluster-scoped. A cluster lacks it where the definitions are of an earlier version.
AGENT_CLASS = Resource(CLASS_KIND, GROUP, VERSION, CLASS_PLURAL, optional=True)
CONFIG_MAP = Resource("ConfigMap", "", "v1", "configmaps", _OURS)
SECRET = Resource("Secret", "", "v1", "secrets", _OURS)
SERVICE_ACCOUNT = Resource("ServiceAccount", "", "v1", "serviceaccounts", _OURS)
SERVICE = Resource("Service", "", "v1", "services", _OURS)
DEPLOYMENT = Resource("Deployment", "apps", "v1", "deployments", _OURS)
AUTOSCALER = Resource("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers", _OURS)
DISRUPTION_BUDGET = Resource("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets", _OURS)
NETWORK_POLICY = Resource("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies", _OURS)
INGRESS = Resource("Ingress", "networking.k8s.io", "v1", "ingresses", _OURS)
HTTP_ROUTE = Resource("HTTPRoute", "gateway.networking.k8s.io", "v1", "httproutes", _OURS, optional=True)
SERVICE_MONITOR = Resource("ServiceMonitor", "monitoring.coreos.com", "v1", "servicemonitors", _OURS, optional=True)
SCALED_OBJECT = Resource("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects", _OURS, optional=True)
POD = Resource("Pod", "", "v1", "pods", f"{NAME}={PRODUCT}")
EVENT = Resource("Event", "", "v1", "events")

CHILDREN = (
    CONFIG_MAP,
    SECRET,
    SERVICE_ACCOUNT,
    SERVICE,
    DEPLOYMENT,
    AUTOSCALER,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    INGRESS,
    HTTP_ROUTE,
    SERVICE_MONITOR,
    SCALED_OBJECT,
)
OPTIONAL = tuple(resource for resource in CHILDREN if resource.optional)
# Kinds that every cluster has. The operator cannot read Secrets, so it does not watch them either.
WATCHED = (AGENT, *(each for each in CHILDREN if each is not SECRET and not each.optional), POD)

BY_KIND = {resource.kind: resource for resource in (*CHILDREN, AGENT, AGENT_CLASS, POD, EVENT)}
