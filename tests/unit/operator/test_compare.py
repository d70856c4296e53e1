"""Whether an observed object has everything that is desired of it."""

from decimal import Decimal
from typing import Any

import pytest

from agent_operator.kube.compare import fingerprint, has_all, quantity


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"env": [{"name": "B", "value": "2"}]}, {"env": [{"name": "A"}, {"name": "B", "value": "2"}]}),
        ({"volumeMounts": [{"mountPath": "/a"}]}, {"volumeMounts": [{"mountPath": "/b"}, {"mountPath": "/a"}]}),
        ({"limits": {"cpu": "1000m", "memory": "1024Mi"}}, {"limits": {"cpu": "1", "memory": "1Gi"}}),
        ({"requests": {"cpu": "0.5"}}, {"requests": {"cpu": "500m"}}),
        ({"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "a", "tolerationSeconds": 3}]}),
        ({"env": [{"name": "A", "value": ""}]}, {"env": [{"name": "A"}]}),
        ({"volumeMounts": [{"mountPath": "/a", "readOnly": False}]}, {"volumeMounts": [{"mountPath": "/a"}]}),
        ({"livenessProbe": {"initialDelaySeconds": 0}}, {"livenessProbe": {}}),
    ],
)
def test_values_in_another_form_or_with_additions_match(wanted: Any, found: Any) -> None:
    assert has_all(wanted, found)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"a": 1}, {}),
        ({"a": 1}, None),
        ({"a": {"b": 1}}, {"a": "b"}),
        ({"a": [1]}, {"a": 1}),
        ({"env": [{"name": "A", "value": "2"}]}, {"env": [{"name": "A", "value": "1"}]}),
        ({"env": [{"name": "A"}]}, {"env": []}),
        ({"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "a"}, {"key": "b"}]}),
        ({"drop": ["ALL"]}, {"drop": ["ALL", "NET_RAW"]}),
        ({"limits": {"cpu": "1"}}, {"limits": {"cpu": "2"}}),
        ({"limits": {"cpu": "1"}}, {"limits": {}}),
        ({"limits": {"cpu": 0}}, {"limits": {}}),
        ({"labels": {"team": ""}}, {"labels": {}}),
        ({"env": [{"name": "A", "value": ""}]}, {"env": [{"name": "A", "value": "1"}]}),
        ({"replicas": 0}, {"replicas": 1}),
        ({"automountServiceAccountToken": False}, {}),
        ({"securityContext": {"allowPrivilegeEscalation": False}}, {"securityContext": {}}),
        ({"tolerations": [{"key": "a", "tolerationSeconds": 0}]}, {"tolerations": [{"key": "a"}]}),
    ],
)
def test_missing_or_different_values_are_detected(wanted: Any, found: Any) -> None:
    assert not has_all(wanted, found)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", "1"),
        ("100m", "0.1"),
        ("1Ki", "1024"),
        ("1.5Gi", "1610612736"),
        ("2k", "2000"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("1E", "1000000000000000000"),
        (".5", "0.5"),
    ],
)
def test_quantities_are_parsed_as_kubernetes_does(text: str, amount: str) -> None:
    assert quantity(text) == Decimal(amount)


def test_an_invalid_quantity_is_an_error() -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity("many")


def test_the_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
