"""Label selectors (Kubernetes API reference: LabelSelector), evaluated without an API server."""

from collections.abc import Mapping
from typing import Any

from agent_operator.manifests.document import Document
from agent_operator.tools.importing.draft import object_of, objects_of


def selects(selector: Any, labels: Mapping[str, str]) -> bool:
    """Return whether a LabelSelector with at least one condition matches the labels."""
    conditions = object_of(selector)
    exact = object_of(conditions.get("matchLabels"))
    expressions = objects_of(conditions.get("matchExpressions"))
    if not exact and not expressions:
        return False
    return labels.items() >= exact.items() and all(_holds(each, labels) for each in expressions)


def selecting_labels(*documents: Document) -> frozenset[str]:
    """Return the labels by which these objects select pods: Deployments, budgets, Services."""
    found: set[str] = set()
    for document in documents:
        selector = object_of(object_of(document.get("spec")).get("selector"))
        if document.get("kind") == "Service":
            found |= selector.keys()
        found |= object_of(selector.get("matchLabels")).keys()
        found |= {str(each.get("key")) for each in objects_of(selector.get("matchExpressions"))}
    return frozenset(found)


def service_selects(selector: Any, labels: Mapping[str, str]) -> bool:
    """Return whether the selector of a Service, which is a plain map, matches the labels."""
    return selects({"matchLabels": selector}, labels)


def _holds(expression: dict[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator = expression.get("key"), expression.get("operator")
    values = expression.get("values") or []
    there = key in labels
    match operator:
        case "Exists":
            return there
        case "DoesNotExist":
            return not there
        case "In":
            return there and labels[str(key)] in values
        case "NotIn":
            return not there or labels[str(key)] not in values
    return False
