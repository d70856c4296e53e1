"""Which objects may be adopted, and whose fields become ours."""

from typing import Any

import pytest

from agent_operator.controller.reconcile.adoption import handed_over, is_adoptable

Document = dict[str, Any]

AGENTS = {"app.kubernetes.io/name": "portside-agent", "app.kubernetes.io/instance": "hello"}
RELEASE = {"meta.helm.sh/release-name": "hello", "meta.helm.sh/release-namespace": "prod"}


def document(labels: Document, annotations: Document | None = None, **metadata: Any) -> Document:
    return {
        "kind": "Service",
        "metadata": {
            "name": "hello",
            "namespace": "prod",
            "labels": {**AGENTS, **labels},
            "annotations": annotations or {},
            **metadata,
        },
    }


def share(manager: str, operation: str, *fields: str, **more: str) -> Document:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {f"f:{field}": {} for field in fields}},
        "time": "2026-01-01T00:00:00Z",
        **more,
    }


@pytest.mark.parametrize(
    ("found", "adoptable"),
    [
        (document({"app.kubernetes.io/managed-by": "Helm"}, RELEASE), True),
        (document({"app.kubernetes.io/managed-by": "portside-operator"}), True),
        (document({"app.kubernetes.io/managed-by": "Helm"}), False),
        (document({"app.kubernetes.io/managed-by": "Helm"}, RELEASE | {"meta.helm.sh/release-name": "other"}), False),
        (document({"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/name": "redis"}, RELEASE), False),
        (document({"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/instance": "x"}, RELEASE), False),
        (document({}), False),
        (
            document(
                {"app.kubernetes.io/managed-by": "Helm"},
                RELEASE,
                ownerReferences=[{"controller": True, "kind": "Other", "uid": "u"}],
            ),
            False,
        ),
    ],
)
def test_only_objects_left_by_helm_or_an_agent_of_that_name_may_be_adopted(found: Document, adoptable: bool) -> None:
    assert is_adoptable(found, "hello") is adoptable


@pytest.mark.parametrize("operation", ["Apply", "Update"])
def test_fields_of_helm_become_ours_and_other_managers_keep_theirs(operation: str) -> None:
    others = [share("kube-controller-manager", "Update", "replicas", subresource="status"), share("me", "Update", "x")]

    shares = handed_over([share("helm", operation, "ports", "type"), *others], "portside-operator")

    ours = [each for each in shares if each["manager"] == "portside-operator"]
    assert [(each["operation"], each["fieldsV1"]) for each in ours] == [
        ("Apply", {"f:spec": {"f:ports": {}, "f:type": {}}})
    ]
    assert [each for each in shares if each not in ours] == others


def test_two_entries_of_managed_fields_are_merged() -> None:
    shares = [
        share("helm", "Update", "ports"),
        share("helm", "Apply", "type"),
        share("portside-operator", "Apply", "a"),
    ]

    (ours,) = handed_over(shares, "portside-operator")

    assert ours["fieldsV1"] == {"f:spec": {"f:ports": {}, "f:type": {}, "f:a": {}}}


def test_an_object_without_fields_of_helm_is_unchanged() -> None:
    shares = [share("portside-operator", "Apply", "a"), share("me", "Update", "x")]

    assert handed_over(shares, "portside-operator") == shares
