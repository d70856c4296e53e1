"""The CustomResourceDefinitions of `AgentDeployment` and `AgentClass` (apiextensions.k8s.io/v1)."""

from typing import Any

from agent_operator.api.agent import GROUP, KIND, NAME_RULE, PLURAL, VERSION
from agent_operator.api.agent_class import CLASS_KIND, CLASS_PLURAL, DEFAULT_CLASS, AgentClassSpec
from agent_operator.api.rules import VALIDATIONS, Rule, with_rules
from agent_operator.api.schema import explained, structural
from agent_operator.api.spec import AgentSpec
from agent_operator.api.status import AgentStatus

# Only the API server sees the previous object. It checks this rule for `kubectl scale` too, which would otherwise
# succeed without effect. Omitting `replicas` resets it to 1 and is not a request for one pod, so 1 is always accepted.
SCALE_RULE = Rule(
    cel="!self.autoscaling.enabled || !oldSelf.autoscaling.enabled || self.replicas == oldSelf.replicas "
    "|| self.replicas == 1",
    message="replicas has no effect while autoscaling is enabled: change autoscaling.minReplicas or "
    "autoscaling.maxReplicas, or set autoscaling.enabled to false first",
    holds=lambda _: True,
    field="replicas",
)

# In a JSON path, the dots of a key are escaped.
DEFAULT_PATH = ".metadata.annotations." + DEFAULT_CLASS.replace(".", r"\.")


def crd() -> dict[str, Any]:
    """Return the definition of AgentDeployment as a document, identical at each call."""
    subresources = {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }
    names = {"plural": PLURAL, "shortNames": ["agd"], "categories": ["agents"]}
    served = {"additionalPrinterColumns": _columns(), "subresources": subresources}
    return _definition(KIND, "Namespaced", names, {**served, "schema": {"openAPIV3Schema": _schema()}})


def class_crd() -> dict[str, Any]:
    """Return the definition of AgentClass as a document, identical at each call."""
    schema = {
        "description": "Defaults and bounds that a platform team sets for agents.",
        "type": "object",
        "required": ["spec"],
        "properties": {**_identity(CLASS_KIND), "spec": explained(structural(AgentClassSpec))},
    }
    columns = [
        _column("Default", DEFAULT_PATH, "Whether agents that name no class have this one."),
        _column("Description", ".spec.description", "What the class is for."),
        _column("Age", ".metadata.creationTimestamp", "Time since the class was created.", kind="date"),
    ]
    served = {"additionalPrinterColumns": columns, "schema": {"openAPIV3Schema": schema}}
    return _definition(CLASS_KIND, "Cluster", {"plural": CLASS_PLURAL}, served)


def _definition(kind: str, scope: str, names: dict[str, Any], served: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{names['plural']}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "agent-operator", "app.kubernetes.io/part-of": "portside"},
        },
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {"kind": kind, "listKind": f"{kind}List", "singular": kind.lower(), **names},
            "versions": [{"name": VERSION, "served": True, "storage": True, **served}],
        },
    }


def _identity(kind: str) -> dict[str, Any]:
    return {
        "apiVersion": {"type": "string", "description": f"Version of this schema: {GROUP}/{VERSION}."},
        "kind": {"type": "string", "description": f"Kind of this object: {kind}."},
        "metadata": {"type": "object"},
    }


def _schema() -> dict[str, Any]:
    return {
        "description": "An AI agent, run as a hardened, autoscaled and observable service.",
        "type": "object",
        "required": ["spec"],
        VALIDATIONS: [NAME_RULE.schema()],
        "properties": {
            **_identity(KIND),
            "spec": with_rules(explained(structural(AgentSpec)), SCALE_RULE),
            "status": structural(AgentStatus),
        },
    }


def _columns() -> list[dict[str, Any]]:
    return [
        _column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether the agent serves as specified."),
        _column("Replicas", ".status.podsReady", "Ready pods out of the desired number."),
        _column("Model", ".status.model", "Model that answers, or echo."),
        _column("URL", ".status.url", "Address inside the cluster."),
        _column("Age", ".metadata.creationTimestamp", "Time since the agent was created.", kind="date"),
        _column("Image", ".status.image", "Image of the pods.", priority=1),
        _column(
            "Reason", '.status.conditions[?(@.type=="Ready")].reason', "Reason of the Ready condition.", priority=1
        ),
        _column(
            "Dependencies",
            '.status.conditions[?(@.type=="DependenciesReachable")].status',
            "Whether the pods reach the model API and Redis.",
            priority=1,
        ),
        # At the end, because most agents have none.
        _column("Workers", ".status.workersReady", "Ready workers out of the desired number.", priority=1),
        _column(
            "Budget", ".status.budget.usedPercent", "Used part of the budget, in percent.", kind="integer", priority=1
        ),
        _column("Class", ".status.className", "AgentClass of the agent.", priority=1),
    ]


def _column(name: str, path: str, description: str, *, kind: str = "string", priority: int = 0) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | ({"priority": priority} if priority else {})
