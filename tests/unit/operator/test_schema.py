"""The artifacts generated from the models."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings

from agent_operator.api.crd import crd
from agent_operator.api.schema import INT_OR_STRING, VERBATIM, Schema
from agent_operator.api.spec import AgentSpec
from agent_operator.api.validation import InvalidAgentError, parse
from codegen.operator.values import CHART_ONLY, values_schema, values_yaml
from unit.operator.strategies import agents, specs, without_references


def nodes(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield every schema inside this one, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


ROOT = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
NODES = [*nodes(ROOT["properties"]["spec"], "spec"), *nodes(ROOT["properties"]["status"], "status")]


@pytest.mark.parametrize(("path", "schema"), NODES, ids=[path for path, _ in NODES])
def test_every_part_of_the_schema_is_structural_described_and_bounded(path: str, schema: Schema) -> None:
    assert not {"$ref", "anyOf", "oneOf", "title", "const"} & set(schema)
    assert schema.get("additionalProperties") is not False
    assert path.endswith(("[]", "{}")) or schema["description"].endswith((".", "?")), "a sentence says what it is"
    kind = "integer or string" if schema.get(INT_OR_STRING) else schema["type"]
    bounded = {"string": "maxLength", "array": "maxItems", "integer or string": "maxLength"}
    if kind in bounded and "enum" not in schema and schema.get("format") != "date-time":
        assert schema[bounded[kind]] > 0
    if "additionalProperties" in schema:
        assert schema["maxProperties"] > 0
    if kind == "array":
        assert schema["x-kubernetes-list-type"] in {"map", "set", "atomic"}
    if VERBATIM in schema:
        assert schema["x-kubernetes-map-type"] == "atomic", "managed fields repeat no level of it"


@given(specs().map(without_references))
@settings(max_examples=100, deadline=None)
def test_the_chart_accepts_every_valid_spec_as_values(spec: dict[str, Any]) -> None:
    jsonschema.Draft7Validator(values_schema()).validate(spec)


def test_the_values_of_the_chart_are_the_defaults_of_the_spec() -> None:
    values = yaml.safe_load(values_yaml(values_schema()))
    jsonschema.Draft7Validator(values_schema()).validate(values)
    own = {key: value for key, value in values.items() if key not in CHART_ONLY}

    # The defaults alone lack a key, which the user must set.
    model = AgentSpec.model_validate({**own, "agent": {**own["agent"], "provider": "echo"}})

    assert model == AgentSpec.model_validate({"agent": {"provider": "echo"}})


@pytest.mark.parametrize(
    "values",
    [
        {"replica": 1},
        {"agent": {"modl": "x"}},
        {"replicas": "2"},
        {"image": {"digest": "abc"}},
        {"service": {"port": 0}},
        {"agent": {"baseUrl": "https://user:secret@gateway.example"}},
        {"agent": {"baseUrl": "http://:8080"}},
    ],
)
def test_the_chart_rejects_wrong_values(values: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(values_schema()).validate(values)


@given(agents())
@settings(max_examples=100, deadline=None)
def test_a_document_with_the_defaults_of_the_api_server_means_the_same(document: dict[str, Any]) -> None:
    spec = parse(document).spec
    filled_in = spec.model_dump(by_alias=True)

    assert parse({**document, "spec": filled_in}).spec == spec


def test_all_faults_are_reported_at_once_with_their_fields_and_without_secrets() -> None:
    document = {
        "apiVersion": "portside.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": "Hello"},
        "spec": {
            "agent": {"maxTokens": "100", "modl": "x"},
            "apiKey": {"value": "sk secret"},
            "imagePullSecrets": [{"name": "ok"}, {}],
        },
    }

    with pytest.raises(InvalidAgentError) as invalid:
        parse(document)

    assert {fault.field for fault in invalid.value.faults} == {
        "metadata.name",
        "spec.agent.maxTokens",
        "spec.agent.modl",
        "spec.apiKey.value",
        "spec.imagePullSecrets[1].name",
    }
    assert "sk secret" not in str(invalid.value)
