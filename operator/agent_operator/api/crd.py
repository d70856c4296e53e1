"""The CustomResourceDefinition of `AgentDeployment` (apiextensions.k8s.io/v1)."""

from typing import Any

from agent_operator.api.agent import GROUP, KIND, NAME_RULE, PLURAL, VERSION
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


def crd() -> dict[str, Any]:
    """Return the definition as a document, identical at each call."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{PLURAL}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "agent-operator", "app.kubernetes.io/part-of": "portside"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["agd"],
                "categories": ["agents"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": _columns(),
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "schema": {"openAPIV3Schema": _schema()},
                }
            ],
        },
    }


def _schema() -> dict[str, Any]:
    return {
        "description": "An AI agent, run as a hardened, autoscaled and observable service.",
        "type": "object",
        "required": ["spec"],
        VALIDATIONS: [NAME_RULE.schema()],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Version of this schema: {GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"Kind of this object: {KIND}."},
            "metadata": {"type": "object"},
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
    ]


def _column(name: str, path: str, description: str, *, kind: str = "string", priority: int = 0) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | ({"priority": priority} if priority else {})
