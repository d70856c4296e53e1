"""Valid specs for hypothesis, drawn from the definition's own schema, so that a new field is tested at once."""

from typing import Any

from hypothesis import strategies as st

from agent_operator.api.agent import API_VERSION, KIND
from agent_operator.api.schema import INT_OR_STRING, Schema, structural
from agent_operator.api.spec import AgentSpec

# Longer texts and maps find nothing more, and take long.
MAX_LENGTH = 60
MAX_ITEMS = 3

KEYS = st.from_regex(r"([a-z]{1,9}\.[a-z]{1,5}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,9}[A-Za-z0-9])?", fullmatch=True)


def specs() -> st.SearchStrategy[dict[str, Any]]:
    """Specs as users write them: any part may be missing; all are valid."""
    return _values(structural(AgentSpec)).map(_keep_rules)


def agents() -> st.SearchStrategy[dict[str, Any]]:
    """Whole documents."""
    return specs().map(
        lambda spec: {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "hello"}, "spec": spec}
    )


def _values(schema: Schema) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get(INT_OR_STRING):
        return st.one_of(_texts(schema), _integers(schema))
    if schema["type"] == "object":
        return _objects(schema)
    if schema["type"] == "array":
        keys = schema.get("x-kubernetes-list-map-keys")
        unique = (lambda item: tuple(item[key] for key in keys)) if keys else None
        return st.lists(_values(schema["items"]), max_size=MAX_ITEMS, unique_by=unique)
    if schema["type"] == "boolean":
        return st.booleans()
    return _texts(schema) if schema["type"] == "string" else _integers(schema)


def _objects(schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
    if "additionalProperties" in schema:
        return st.dictionaries(KEYS, _values(schema["additionalProperties"]), max_size=MAX_ITEMS)
    required = schema.get("required", [])
    fields = {name: _values(child) for name, child in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: fields.pop(name) for name in required},
        optional=fields,
    )


def _texts(schema: Schema) -> st.SearchStrategy[str]:
    longest = min(schema["maxLength"], MAX_LENGTH)
    if "pattern" in schema:
        texts = st.from_regex(schema["pattern"].removeprefix("^").removesuffix("$"), fullmatch=True)
        # A pattern may well ask for more than our short length, as a digest does.
        return texts.filter(lambda text: len(text) <= schema["maxLength"])
    return st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=longest)


def _integers(schema: Schema) -> st.SearchStrategy[int]:
    return st.integers(schema.get("minimum"), schema.get("maximum", 10_000))


def _keep_rules(spec: dict[str, Any]) -> dict[str, Any]:
    """The nearest spec that keeps the rules across fields."""
    key = spec.get("apiKey", {})
    if "value" in key:
        key.pop("secretName", None)
    if "value" not in key and "secretName" not in key:
        spec["agent"] = {**spec.get("agent", {}), "provider": "echo"}
    scaling = spec.get("autoscaling", {})
    low, high = scaling.get("minReplicas", 1), scaling.get("maxReplicas", 10)
    if low > high:
        scaling |= {"minReplicas": high, "maxReplicas": low}
    rollout = spec.get("rollout", {})
    if {rollout.get("maxSurge", 1), rollout.get("maxUnavailable", 0)} <= {0, "0%"}:
        rollout["maxSurge"] = 1
    for toleration in spec.get("tolerations", []):
        if "key" not in toleration:
            toleration["operator"] = "Exists"
        if toleration.get("operator") == "Exists":
            toleration.pop("value", None)
        if "tolerationSeconds" in toleration:
            toleration["effect"] = "NoExecute"
    return spec
