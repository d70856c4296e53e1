"""A class of agents: the values that it provides, the specs that it refuses, and which class an agent has."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.agent_class import AgentClassSpec, InvalidClassError, parse_class
from agent_operator.api.bounds import UNREADABLE
from agent_operator.api.schema import structural
from agent_operator.api.spec import AgentSpec
from agent_operator.api.validation import InvalidAgentError
from agent_operator.classes.bounds import amount, faults_of_defaults, violations
from agent_operator.classes.checks import CHECKS
from agent_operator.classes.choice import Classes, apply_class, classes_of
from agent_operator.classes.defaults import document_of, with_class
from agent_operator.classes.load import ClassError, load_classes
from agent_operator.controller.known_classes import KnownClasses
from agent_operator.controller.reconcile.permitted import permitted
from agent_operator.controller.status.status import Observation, status_of, status_of_refused
from agent_operator.kube.cache import Cache
from agent_operator.kube.conditions import condition
from agent_operator.policy.fields import plain
from agent_operator.policy.settings import Policy
from unit.operator.strategies import specs, values_of

ECHO: dict[str, Any] = {"agent": {"provider": "echo"}}
PRICES = {"claude-sonnet-5-5": {"input": "3", "output": "15"}}


def spec(**fields: Any) -> AgentSpec:
    return AgentSpec.model_validate({**ECHO, **fields})


def bounded(**bounds: Any) -> AgentClassSpec:
    return AgentClassSpec.model_validate({"bounds": bounds})


def refused(agent: AgentSpec, **bounds: Any) -> set[str]:
    return {fault.field for fault in violations(agent, bounded(**bounds))}


def document(name: str, spec: dict[str, Any] | None = None, *, default: bool = False) -> dict[str, Any]:
    annotations = {"portside.dev/default-class": "true"} if default else {}
    return {
        "apiVersion": "portside.dev/v1alpha1",
        "kind": "AgentClass",
        "metadata": {"name": name, "annotations": annotations},
        "spec": spec or {},
    }


def agent(**fields: Any) -> AgentDeployment:
    return AgentDeployment("hello", "team-a", spec(**fields))


def test_a_value_that_the_spec_lacks_is_that_of_the_class() -> None:
    given_class = AgentClassSpec(
        defaults={"agent": {"baseUrl": "http://gateway.ai", "model": "claude-haiku-5"}, "podLabels": {"team": "x"}}
    )

    effective = with_class(spec(), given_class)

    assert effective.spec.agent.base_url == "http://gateway.ai"
    assert effective.spec.agent.model == "claude-haiku-5"
    assert effective.spec.pod_labels == {"team": "x"}
    assert effective.origins["agent.baseUrl"] == effective.origins["agent.model"] == "class"
    assert effective.origins["agent.provider"] == "spec"
    assert effective.origins["agent.maxTokens"] == "default"


def test_a_value_of_the_spec_stays() -> None:
    given_class = AgentClassSpec(defaults={"agent": {"model": "claude-haiku-5"}, "podLabels": {"team": "x"}})

    effective = with_class(spec(agent={"provider": "echo", "model": "mine"}, podLabels={"a": "b"}), given_class)

    assert effective.spec.agent.model == "mine"
    assert effective.spec.pod_labels == {"a": "b"}
    assert effective.origins["podLabels"] == effective.origins["agent.model"] == "spec"


@pytest.mark.parametrize(
    ("given_spec", "defaults", "field"),
    [
        ({"redis": {"secretName": "mine"}}, {"redis": {"url": "redis://shared"}}, "redis"),
        ({"apiKey": {"value": "key"}}, {"apiKey": {"secretName": "shared"}}, "apiKey"),
        ({"image": {"tag": "mine"}}, {"image": {"digest": f"sha256:{'0' * 64}"}}, "image"),
        ({"resources": {"limits": {"memory": "1Gi"}}}, {"resources": {"requests": {"cpu": "1"}}}, "resources"),
    ],
)
def test_a_block_whose_fields_belong_together_is_taken_from_one_side(
    given_spec: dict[str, Any], defaults: dict[str, Any], field: str
) -> None:
    ours, of_class = spec(**given_spec), AgentClassSpec(defaults=defaults)

    assert document_of(with_class(ours, of_class).spec)[field] == document_of(ours)[field]
    assert document_of(with_class(spec(), of_class).spec)[field].items() >= defaults[field].items()


def test_a_class_provides_the_place_and_the_identity_of_a_provider_in_a_cloud() -> None:
    identity = {"workloadIdentity": {"bedrock": {"roleArn": "arn:aws:iam::123456789012:role/agents"}}}
    given_class = AgentClassSpec(
        defaults={"agent": {"provider": "bedrock", "bedrock": {"region": "eu-west-1"}, "credentials": identity}}
    )

    effective = with_class(AgentSpec.model_validate({"className": "standard"}), given_class)

    assert effective.spec.agent.bedrock is not None
    assert effective.spec.agent.bedrock.region == "eu-west-1"
    assert effective.origins["agent.bedrock.region"] == "class"
    assert effective.origins["agent.credentials.workloadIdentity.bedrock.roleArn"] == "class"
    own = {"region": "us-east-1", "modelIds": {"claude-haiku-5": "mine"}}
    of_agent = AgentSpec.model_validate({"className": "standard", "agent": {"bedrock": own}})
    assert document_of(with_class(of_agent, given_class).spec)["agent"]["bedrock"].items() >= own.items()


def test_prices_alone_are_no_budget() -> None:
    given_class = AgentClassSpec(defaults={"budget": {"prices": PRICES}, "redis": {"url": "redis://shared"}})

    assert with_class(spec(), given_class).spec.budget is None
    budget = with_class(spec(className="c", budget={"cost": "5"}), given_class).spec.budget
    assert budget is not None
    assert budget.prices is not None


def test_what_a_rule_requires_may_come_from_a_class_that_is_named() -> None:
    given_class = AgentClassSpec(defaults={"apiKey": {"secretName": "shared"}})
    named = AgentSpec.model_validate({"className": "standard"})

    assert with_class(named, given_class).spec.api_key.secret_name == "shared"
    with pytest.raises(InvalidAgentError, match="provider anthropic needs a key"):
        with_class(named, AgentClassSpec())
    with pytest.raises(ValueError, match="provider anthropic needs a key"):
        AgentSpec.model_validate({})


@given(specs())
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_class_without_defaults_and_bounds_changes_nothing(document: dict[str, Any]) -> None:
    before = AgentSpec.model_validate({**document, "className": None})

    effective = with_class(before, AgentClassSpec())

    assert effective.spec == before
    assert set(effective.origins.values()) <= {"spec", "default"}
    assert violations(effective.spec, AgentClassSpec()) == []


@given(specs(), values_of(structural(AgentClassSpec)["properties"]["defaults"]))
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_defaults_are_applied_once_and_keep_every_value_of_the_spec(
    document: dict[str, Any], defaults: dict[str, Any]
) -> None:
    try:
        given_class = AgentClassSpec(defaults=defaults)
        before = AgentSpec.model_validate(document)
        effective = with_class(before, given_class)
    except ValueError:
        return  # The drawn values break a rule.

    assert with_class(effective.spec, given_class).spec == effective.spec
    assert before.tools == effective.spec.tools
    if before.pod_labels is not None:
        assert effective.spec.pod_labels == before.pod_labels


SIDECAR = {"name": "proxy", "image": "docker.io/library/nginx:1"}


# Bounds, a spec within them, and specs beyond them by the field that is refused.
CLOUDS: dict[str, Any] = {
    "provider": "echo",
    "bedrock": {
        "region": "eu-west-1",
        "baseUrl": "https://bedrock.example.com",
        "modelIds": {"claude-haiku-5": "eu.anthropic.claude-haiku-5:0"},
    },
}
CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, dict[str, Any]]]] = [
    (
        {"imageRegistries": ["registry.example.com/team", "quay.io"]},
        {"image": {"repository": "quay.io/agent"}, "runtime": {"image": "registry.example.com/team/x@sha256:0"}},
        {
            "spec.image.repository": {"image": {"repository": "registry.example.com/teammate/x"}},
            "spec.runtime.image": {"runtime": {"image": "quay.io:5000/x:1"}},
            "spec.sidecars[proxy].image": {"sidecars": [SIDECAR]},
            "spec.initContainers[proxy].image": {"initContainers": [SIDECAR]},
            "spec.tools[t].mcp.sidecar.image": {"tools": [{"name": "t", "mcp": {"sidecar": {"image": "nginx"}}}]},
        },
    ),
    ({"providers": ["echo"]}, {}, {"spec.agent.provider": {"agent": {}, "apiKey": {"secretName": "key"}}}),
    (
        {"models": ["claude-haiku-*", "claude-sonnet-5-5"]},
        {"agent": {"provider": "echo", "models": ["claude-haiku-5"]}},
        {
            "spec.agent.model": {"agent": {"provider": "echo", "model": "claude-opus-5"}},
            "spec.agent.models": {"agent": {"provider": "echo", "models": ["claude-haiku-5", "other"]}},
        },
    ),
    (
        {"modelHosts": ["*.example.com"]},
        {"agent": {"provider": "echo", "baseUrl": "https://AI.Example.com:8443/v1"}},
        {"spec.agent.baseUrl": {"agent": {"provider": "echo", "baseUrl": "https://example.com"}}},
    ),
    (
        {"modelHosts": ["*.example.com", "agents.services.ai.azure.com"]},
        {"agent": {**CLOUDS, "foundry": {"resource": "agents"}}},
        {
            "spec.agent.bedrock.baseUrl": {
                "agent": {"provider": "echo", "bedrock": {"region": "eu-west-1", "baseUrl": "https://other.org"}}
            },
            "spec.agent.vertex.baseUrl": {
                "agent": {
                    "provider": "echo",
                    "vertex": {"project": "one", "region": "eu", "baseUrl": "http://example.com"},
                }
            },
            "spec.agent.foundry.baseUrl": {
                "agent": {"provider": "echo", "foundry": {"baseUrl": "https://ai.other.org/anthropic"}}
            },
            "spec.agent.foundry.resource": {"agent": {"provider": "echo", "foundry": {"resource": "other"}}},
        },
    ),
    (
        {"models": ["claude-haiku-*", "eu.anthropic.claude-haiku-*"]},
        {"agent": {**CLOUDS, "model": "claude-haiku-5"}},
        {
            "spec.agent.bedrock.modelIds": {
                "agent": {**CLOUDS, "bedrock": {"region": "eu-west-1", "modelIds": {"claude-haiku-5": "claude-opus-5"}}}
            },
            "spec.agent.vertex.modelIds": {
                "agent": {
                    **CLOUDS,
                    "vertex": {"project": "one", "region": "eu", "modelIds": {"a": "claude-haiku-5", "b": "other"}},
                }
            },
            "spec.agent.foundry.modelIds": {
                "agent": {**CLOUDS, "foundry": {"resource": "agents", "modelIds": {"claude-haiku-5": "big"}}}
            },
        },
    ),
    (
        {"toolHosts": ["tools.example.com"]},
        {"tools": [{"name": "t", "mcp": {"url": "http://tools.example.com/mcp"}}]},
        {"spec.tools[t].mcp.url": {"tools": [{"name": "t", "mcp": {"url": "http://tools.example.com.evil.io"}}]}},
    ),
    (
        {"replicas": {"min": 2, "max": 5}},
        {"replicas": 2},
        {
            "spec.replicas": {"replicas": 6},
            "spec.autoscaling.minReplicas": {"autoscaling": {"enabled": True, "maxReplicas": 5}},
            "spec.autoscaling.maxReplicas": {"autoscaling": {"enabled": True, "minReplicas": 2}},
            "spec.worker.replicas": {
                "replicas": 2,
                "worker": {"enabled": True, "replicas": 6},
                "redis": {"url": "redis://r"},
            },
        },
    ),
    (
        {"resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}},
        {"resources": {"requests": {"cpu": "1000m"}, "limits": {"memory": 1073741824}}},
        {
            "spec.resources.requests": {"resources": {"requests": {"cpu": "1001m"}, "limits": {"memory": "1Gi"}}},
            "spec.resources.limits": {"resources": {"limits": {"cpu": "9"}}},
            "spec.sidecars[proxy].resources.limits": {"sidecars": [SIDECAR]},
            "spec.worker.resources.limits": {
                "worker": {"enabled": True, "resources": {}},
                "redis": {"url": "redis://r"},
            },
        },
    ),
    ({"exposure": {"ingress": False}}, {}, {"spec.ingress.enabled": {"ingress": {"enabled": True}}}),
    ({"exposure": {"serviceTypes": ["ClusterIP"]}}, {}, {"spec.service.type": {"service": {"type": "NodePort"}}}),
    (
        {"exposure": {"hosts": ["*.apps.example.com"]}},
        {"ingress": {"enabled": True, "hosts": ["a.apps.example.com"]}, "httpRoute": {"hostnames": ["x.org"]}},
        {
            "spec.ingress.hosts": {"ingress": {"enabled": True}},
            "spec.httpRoute.hostnames": {
                "httpRoute": {"enabled": True, "parentRefs": [{"name": "g"}], "hostnames": ["x.org"]}
            },
        },
    ),
    (
        {"models": ["*"]},
        {"extraEnv": [{"name": "HTTPS_PROXY", "value": "x"}]},
        {
            "spec.extraEnv[default_model]": {"extraEnv": [{"name": "default_model", "value": "x"}]},
            "spec.envFrom": {"envFrom": [{"secretRef": {"name": "x"}}]},
        },
    ),
]
# All specs of the cases, for the tests that compare with the API server.
BOUNDED = [each for _, within, beyond in CASES for each in (within, *beyond.values())]


@pytest.mark.parametrize(("bounds", "allowed", "refused_fields"), CASES)
def test_a_bound_refuses_the_field_and_allows_what_is_within(
    bounds: dict[str, Any], allowed: dict[str, Any], refused_fields: dict[str, dict[str, Any]]
) -> None:
    assert refused(spec(**allowed), **bounds) == set()
    for field, fields in refused_fields.items():
        assert field in refused(spec(**fields), **bounds), field


@pytest.mark.parametrize(
    ("budget", "fields"),
    [
        (None, {"spec.budget"}),
        ({"tokens": 1000}, set()),
        ({"tokens": 1001}, {"spec.budget.tokens"}),
        ({"period": "day", "tokens": 32}, set()),
        ({"period": "day", "tokens": 33}, {"spec.budget.tokens"}),
        ({"tokens": 1000, "action": "warn"}, {"spec.budget.action"}),
        ({"cost": "1", "prices": PRICES}, {"spec.budget.tokens"}),
    ],
)
def test_a_bounded_budget_must_be_there_and_stop_the_agent(budget: dict[str, Any] | None, fields: set[str]) -> None:
    given_spec = spec(redis={"url": "redis://r"}, **({} if budget is None else {"budget": budget}))

    assert refused(given_spec, budget={"tokensPerMonth": 1000}) == fields


def test_a_bounded_cost_has_the_prices_of_the_class() -> None:
    given_class = AgentClassSpec.model_validate(
        {"defaults": {"budget": {"prices": PRICES}}, "bounds": {"budget": {"costPerMonth": "100"}}}
    )
    cheap = {"claude-sonnet-5-5": {"input": "0", "output": "0"}}

    def fields(**budget: Any) -> set[str]:
        found = violations(spec(redis={"url": "redis://r"}, budget=budget), given_class)
        return {fault.field for fault in found}

    assert fields(cost="100", prices=PRICES) == set()
    assert fields(cost="100.01", prices=PRICES) == {"spec.budget.cost"}
    assert fields(cost="100", prices=cheap) == {"spec.budget.prices"}


def test_bounded_shares_must_be_there_and_may_come_from_the_class() -> None:
    bounds = {"budget": {"perClient": {"tokensPerMonth": 1000}, "perTenant": {"costPerMonth": "10"}}}
    given_class = AgentClassSpec.model_validate(
        {"defaults": {"budget": {"perClient": {"tokens": 500}, "prices": PRICES}}, "bounds": bounds}
    )

    def fields(**budget: Any) -> set[str]:
        agent_spec = spec(className="c", redis={"url": "redis://r"}, **({"budget": budget} if budget else {}))
        found = violations(with_class(agent_spec, given_class).spec, given_class)
        return {fault.field for fault in found}

    assert fields() == {"spec.budget.perTenant.cost"}
    assert fields(perTenant={"cost": "10"}) == set()
    assert fields(perTenant={"cost": "10.01"}) == {"spec.budget.perTenant.cost"}
    assert fields(period="day", perTenant={"cost": "0.3"}) == {"spec.budget.perClient.tokens"}
    assert fields(tokens=10**9, perClient={"tokens": 1001}, perTenant={"cost": "1"}) == {"spec.budget.perClient.tokens"}
    cheap = {"claude-sonnet-5-5": {"input": "0", "output": "0"}}
    assert fields(perTenant={"cost": "1"}, prices=cheap) == {"spec.budget.prices"}


@pytest.mark.parametrize(
    ("defaults", "bounds", "fields"),
    [
        ({"replicas": 5}, {"replicas": {"max": 5}}, []),
        ({"replicas": 6}, {"replicas": {"max": 5}}, ["replicas"]),
        # What agents have to set is no fault of the class.
        ({}, {"replicas": {"min": 2}, "budget": {"tokensPerMonth": 5}, "models": []}, []),
        ({"budget": {"prices": PRICES}}, {"budget": {"costPerMonth": "5"}}, []),
        ({"budget": {"cost": "5"}}, {"budget": {"tokensPerMonth": 5}}, ["budget.tokens"]),
        ({"budget": {"period": "day", "tokens": 1}}, {"budget": {"tokensPerMonth": 30}}, ["budget.tokens"]),
        ({"budget": {"tokens": 1, "action": "warn"}}, {"budget": {}}, ["budget.action"]),
        ({"budget": {"perClient": {"tokens": 2}}}, {"budget": {"perClient": {"tokensPerMonth": 2}}}, []),
        ({"image": {"tag": "1"}}, {"imageRegistries": ["quay.io"]}, ["image.repository"]),
        ({"resources": {"requests": {"cpu": "1"}}}, {"resources": {"limits": {"memory": "1Gi"}}}, ["resources.limits"]),
        ({"agent": {"models": ["a", "b"]}}, {"models": ["a"]}, ["agent.models"]),
        ({"agent": {"provider": "bedrock"}}, {"providers": ["echo"]}, ["agent.provider"]),
        (
            {"agent": {"foundry": {"resource": "a", "modelIds": {"a": "b"}}}},
            {"models": ["claude-*"], "modelHosts": []},
            ["agent.foundry.modelIds", "agent.foundry.resource"],
        ),
    ],
)
def test_defaults_beyond_the_bounds_of_their_class_are_found(
    defaults: dict[str, Any], bounds: dict[str, Any], fields: list[str]
) -> None:
    found = faults_of_defaults(AgentClassSpec.model_validate({"defaults": defaults, "bounds": bounds}))

    assert [fault.field for fault in found] == [f"spec.{field}" for field in fields]


def test_the_refusal_of_an_agent_says_which_values_are_the_class_s_own() -> None:
    contradictory = {"defaults": {"replicas": 6}, "bounds": {"replicas": {"max": 5}, "providers": ["anthropic"]}}
    classes = classes_of([document("small", contradictory, default=True)])

    own, ours = apply_class(agent(), classes).refusal, apply_class(agent(replicas=7), classes).refusal

    assert own is not None
    assert own.sentence == (
        "AgentClass small refuses the spec, as its own defaults are beyond its bounds (spec.replicas)"
    )
    assert {fault.field for fault in own.faults} == {"spec.replicas", "spec.agent.provider"}
    assert ours is not None
    assert ours.sentence == "AgentClass small refuses the spec"


@pytest.mark.parametrize(
    ("less", "more"),
    [("999m", "1"), ("1023Mi", "1Gi"), ("1e3", "1.1k"), (".5", "501m"), ("1E", "1Ei"), ("2", "2e1"), ("1n", "1u")],
)
def test_amounts_are_compared_as_numbers(less: str, more: str) -> None:
    assert amount(less) < amount(more)
    assert amount(less) == amount(less)


def test_every_check_is_of_a_bound_and_of_a_field() -> None:
    bounds, fields = structural(AgentClassSpec)["properties"]["bounds"], structural(AgentSpec)

    def node(schema: dict[str, Any], path: str) -> dict[str, Any]:
        for name in path.split("."):
            schema = schema["properties"][plain(name)]
            schema = schema["items"] if name.endswith("[]") else schema
            schema = schema["additionalProperties"] if name.endswith("{}") else schema
        return schema

    for check in CHECKS:
        assert node(bounds, check.bound)
        assert node(fields, check.path), check.path
        assert all(node(fields, path)["type"] == "boolean" for path in check.when or {})


def test_an_agent_has_the_class_that_it_names_or_the_default_or_none() -> None:
    model = {"defaults": {"agent": {"model": "other"}}}
    classes = classes_of([document("standard", model, default=True), document("small")])

    assert apply_class(agent(), classes).name == "standard"
    assert apply_class(agent(), classes).agent.spec.agent.model == "other"
    assert apply_class(agent(className="small"), classes).name == "small"
    assert apply_class(agent(), classes_of([document("small")])).name is None


@pytest.mark.parametrize(
    ("documents", "fields", "reason"),
    [
        ([], {"className": "lost"}, "ClassNotFound"),
        ([document("a", default=True), document("b", default=True)], {}, "ClassAmbiguous"),
        ([document("a", {"unknown": 1})], {"className": "a"}, "ClassInvalid"),
        ([document("a", {"unknown": 1}, default=True)], {}, "ClassInvalid"),
        ([document("a", {"namespaces": ["team-b"]})], {"className": "a"}, "ClassRefused"),
        ([document("a", {"bounds": {"providers": []}}, default=True)], {}, "ClassRefused"),
        (
            [document("a", {"defaults": {"agent": {"provider": "anthropic"}}})],
            {"className": "a", "agent": {}},
            "Invalid",
        ),
    ],
)
def test_an_agent_that_its_class_does_not_let_be_is_refused_with_a_reason(
    documents: list[dict[str, Any]], fields: dict[str, Any], reason: str
) -> None:
    given_agent = agent(**fields)

    applied = apply_class(given_agent, classes_of(documents))

    assert applied.refusal is not None
    assert applied.refusal.reason.startswith(reason)
    assert applied.agent == given_agent


def test_namespaces_may_have_default_classes_of_their_own() -> None:
    classes = classes_of(
        [
            document("a", {"namespaces": ["team-a"]}, default=True),
            document("b", {"namespaces": ["team-b*"]}, default=True),
        ]
    )

    assert apply_class(agent(), classes).name == "a"
    assert apply_class(AgentDeployment("hello", "team-b2", spec()), classes).name == "b"
    assert apply_class(AgentDeployment("hello", "other", spec()), classes).name is None


@pytest.mark.parametrize(
    ("given_spec", "sentence"),
    [
        ({"defaults": {"agent": {"modle": "x"}}}, "spec.defaults.agent.modle: unknown field"),
        ({"defaults": {"tools": []}}, "spec.defaults.tools: unknown field"),
        ({"bounds": {"replicas": {"min": 3, "max": 2}}}, "bounds.replicas.min must not exceed"),
        ({"defaults": {"redis": {"url": "redis://a", "secretName": "b"}}}, "set redis.url or redis.secretName"),
    ],
)
def test_the_faults_of_a_class_name_its_fields(given_spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidClassError, match=sentence):
        parse_class(document("a", given_spec))


def test_classes_are_read_from_a_file_and_from_a_folder(tmp_path: Path) -> None:
    text = "kind: ConfigMap\n---\napiVersion: portside.dev/v1alpha1\nkind: AgentClass\nmetadata: {name: a}\nspec: {}\n"
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "..data").write_text("not: read")

    assert load_classes(tmp_path / "a.yaml") == load_classes(tmp_path) == Classes({"a": parse_class(document("a"))})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "cannot be read"),
        ("kind: ConfigMap", "no AgentClass found"),
        ("kind: AgentClass\nmetadata: {name: a}", "apiVersion: should be"),
    ],
)
def test_a_file_without_a_usable_class_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)

    with pytest.raises(ClassError, match=sentence):
        load_classes(file)


OLD = {"replicas": 2, "className": "before", "podsReady": "2/2", "conditions": []}


def test_the_status_of_a_refused_agent_keeps_what_is_known_of_its_pods() -> None:
    applied = apply_class(agent(className="lost"), Classes())
    deployment = {"status": {"replicas": 3, "readyReplicas": 1}}

    status = status_of_refused(applied, deployment, OLD, datetime.now(UTC))

    assert (status["replicas"], status["readyReplicas"], status["podsReady"]) == (3, 1, "2/2")
    assert "className" not in status
    assert condition(status, "Ready")["reason"] == condition(status, "Degraded")["reason"] == "ClassNotFound"
    message = condition(status, "Ready")["message"]
    assert message == (
        "There is no AgentClass lost, so nothing was changed: spec.className: create the class, or correct the name"
    )


def test_the_status_of_an_agent_has_its_class_only_while_it_has_one() -> None:
    with_one = apply_class(agent(), classes_of([document("standard", default=True)])).agent

    refused = apply_class(agent(), classes_of([document("small", {"bounds": {"models": []}}, default=True)]))

    assert status_of(with_one, Observation(), {}, datetime.now(UTC))["className"] == "standard"
    assert status_of_refused(refused, None, OLD, datetime.now(UTC))["className"] == "small"
    assert "className" not in status_of(agent(), Observation(), OLD, datetime.now(UTC))
    assert "className" not in status_of_refused(
        apply_class(agent(), classes_of([document(name, default=True) for name in "ab"])), None, OLD, datetime.now(UTC)
    )


def test_the_policy_is_about_what_the_user_wrote() -> None:
    classes = classes_of([document("standard", {"defaults": {"service": {"annotations": {"a": "b"}}}}, default=True)])

    assert permitted(agent(), Policy(), classes).agent.spec.service.annotations == {"a": "b"}
    refusal = permitted(agent(service={"annotations": {"a": "b"}}), Policy(), classes).refusal
    assert refusal is not None
    assert refusal.reason == "PolicyRefused"


def test_the_operator_follows_changes_of_classes_unless_it_was_given_some() -> None:
    cache = Cache()
    known = KnownClasses(cache)
    assert known.current() == Classes()

    one = {**document("standard", default=True), "kind": "AgentClass"}
    cache.store("AgentClass", {**one, "metadata": {**one["metadata"], "resourceVersion": "1"}})
    known.changed()

    assert known.current().valid["standard"].default
    assert KnownClasses(cache, Classes()).current() == Classes()
    cache.retain("AgentClass", None, set(), "2")
    known.changed()
    assert known.current() == Classes()


def test_a_large_class_is_kept_whole() -> None:
    cache = Cache()
    images = [f"registry.example.com/{'x' * 200}{index}" for index in range(64)]
    bounds = dict.fromkeys(("imageRegistries", "models"), images)
    labels = {f"key-{index}": "x" * 4000 for index in range(20)}
    given_class = document("large", {"bounds": bounds, "defaults": {"podAnnotations": labels}})
    given_class["metadata"]["resourceVersion"] = "1"

    cache.store("AgentClass", given_class)

    assert classes_of(cache.classes()).valid["large"].spec.bounds.models == images


def test_a_class_beyond_the_bounds_of_what_the_operator_reads_is_invalid() -> None:
    given_class = {**document("deep", default=True), UNREADABLE: [("spec.defaults", "is too deep")]}

    refusal = apply_class(agent(), classes_of([given_class])).refusal

    assert refusal is not None
    assert str(refusal) == "AgentClass deep is not valid: spec.defaults: is too deep"
