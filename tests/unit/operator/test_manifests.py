"""The objects that are built from a spec."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from agent_operator import __version__
from agent_operator.api.spec import AgentSpec
from agent_operator.api.yaml import to_yaml
from agent_operator.manifests import desired
from unit.operator.strategies import specs

Document = dict[str, Any]


def build(**spec: Any) -> dict[str, Document]:
    """The objects of an echo agent by kind; the keyword arguments are fields of its spec."""
    model = AgentSpec.model_validate({"agent": {"provider": "echo"}, **spec})
    return {document["kind"]: document for document in desired("hello", "prod", model)}


def pod(**spec: Any) -> Document:
    """The pod template's spec."""
    template: Document = build(**spec)["Deployment"]["spec"]["template"]["spec"]
    return template


def container(**spec: Any) -> Document:
    """The only container."""
    (only,) = pod(**spec)["containers"]
    document: Document = only
    return document


def parts(value: Any) -> Iterator[Any]:
    """The value and all inside it."""
    yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        yield from parts(child)


@given(specs())
@settings(max_examples=150, deadline=None)
def test_every_valid_spec_gives_canonical_objects_and_always_the_same(spec: Document) -> None:
    objects = desired("hello", "prod", AgentSpec.model_validate(spec))

    assert objects == desired("hello", "prod", AgentSpec.model_validate(spec))
    assert {document["metadata"]["name"] for document in objects} == {"hello"}
    assert {document["metadata"]["namespace"] for document in objects} == {"prod"}
    for document in objects:
        assert yaml.safe_load(to_yaml(document)) == document
        assert json.loads(json.dumps(document)) == document
        empty = [part for part in parts(document) if part is None or part in ([], {})]
        assert empty == ([{}] if document["kind"] == "Deployment" else []), "nothing is empty but the emptyDir"


@pytest.mark.parametrize("text", ["\x85", "a\u2028b", "\u2029", "n", "Y", "=", "null", "1e3", "\ufeff", "a: b", " #"])
def test_text_that_yaml_could_take_for_something_else_comes_back_as_it_was(text: str) -> None:
    assert yaml.safe_load(to_yaml({"key": text, text: "value"})) == {"key": text, text: "value"}
    # kubectl reads YAML 1.1, to which these are booleans.
    assert text not in {"n", "Y"} or f'"{text}"' in to_yaml({"key": text})


@given(specs())
@settings(max_examples=50, deadline=None)
def test_every_pod_is_hardened(spec: Document) -> None:
    objects = desired("hello", "prod", AgentSpec.model_validate(spec))
    (deployment,) = (document for document in objects if document["kind"] == "Deployment")
    template = deployment["spec"]["template"]["spec"]

    assert template["automountServiceAccountToken"] is False
    assert template["securityContext"]["runAsNonRoot"] is True
    assert template["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for each in template["containers"]:
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_selector_has_nothing_that_an_upgrade_changes() -> None:
    deployment = build(podLabels={"team": "blue"})["Deployment"]["spec"]

    assert deployment["selector"]["matchLabels"] == {
        "app.kubernetes.io/name": "portside-agent",
        "app.kubernetes.io/instance": "hello",
        "app.kubernetes.io/component": "api",
    }
    assert deployment["template"]["metadata"]["labels"] == {
        **deployment["selector"]["matchLabels"],
        "app.kubernetes.io/part-of": "portside",
        "team": "blue",
    }


def test_settings_stand_in_the_config_map_and_unset_ones_have_no_key() -> None:
    data = build(agent={"provider": "echo", "maxTokens": 100, "systemPrompt": "Be kind."})["ConfigMap"]["data"]

    assert data == {
        "MODEL_PROVIDER": "echo",
        "DEFAULT_MODEL": "claude-sonnet-5-5",
        "MAX_TOKENS": "100",
        "SYSTEM_PROMPT": "Be kind.",
        "REQUEST_TIMEOUT_SECONDS": "60",
        "ENVIRONMENT": "production",
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "json",
    }


def test_the_checksum_covers_the_settings_and_the_inline_key() -> None:
    objects = build(apiKey={"value": "sk-test"})
    lines = [f"{key}={value}\n" for key, value in sorted(objects["ConfigMap"]["data"].items())]
    expected = hashlib.sha256(("".join(lines) + "ANTHROPIC_API_KEY=sk-test\n").encode()).hexdigest()

    annotations = objects["Deployment"]["spec"]["template"]["metadata"]["annotations"]

    assert annotations == {"portside.dev/config-checksum": expected}


@pytest.mark.parametrize(
    ("key", "secret", "item"),
    [
        ({"value": "sk-test"}, "hello", "ANTHROPIC_API_KEY"),
        ({"secretName": "mine", "secretKey": "token"}, "mine", "token"),
    ],
)
def test_a_key_is_mounted_as_a_file_and_never_in_the_environment(key: Document, secret: str, item: str) -> None:
    assert pod(apiKey=key)["volumes"][1] == {
        "name": "secrets",
        "secret": {"secretName": secret, "items": [{"key": item, "path": "ANTHROPIC_API_KEY"}]},
    }
    assert container(apiKey=key)["env"] == [{"name": "SECRETS_DIR", "value": "/etc/portside/secrets"}]
    assert "sk-test" not in json.dumps(build(apiKey=key)["Deployment"])


def test_without_a_key_there_is_no_secrets_folder() -> None:
    assert "env" not in container()
    assert [volume["name"] for volume in pod()["volumes"]] == ["tmp"]
    assert "Secret" not in build()


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, f"portside.dev/agent-service:{__version__}"),
        ({"repository": "example.com/a", "tag": "1"}, "example.com/a:1"),
        ({"tag": "1", "digest": f"sha256:{'a' * 64}"}, f"portside.dev/agent-service@sha256:{'a' * 64}"),
    ],
)
def test_a_digest_wins_over_a_tag_and_the_tag_is_our_version(image: Document, reference: str) -> None:
    assert container(image=image)["image"] == reference


def test_replicas_belong_to_the_autoscaler_while_there_is_one() -> None:
    assert build(replicas=3)["Deployment"]["spec"]["replicas"] == 3
    assert "HorizontalPodAutoscaler" not in build(replicas=3)
    scaled = build(replicas=3, autoscaling={"enabled": True})
    assert "replicas" not in scaled["Deployment"]["spec"]
    assert "HorizontalPodAutoscaler" in scaled


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ({}, [("cpu", 70)]),
        ({"targetCPUUtilizationPercentage": 50}, [("cpu", 50)]),
        ({"targetMemoryUtilizationPercentage": 80}, [("memory", 80)]),
        (
            {"targetCPUUtilizationPercentage": 50, "targetMemoryUtilizationPercentage": 80},
            [("cpu", 50), ("memory", 80)],
        ),
    ],
)
def test_the_autoscaler_has_the_targets_that_are_set_or_one_for_cpu(
    targets: dict[str, int], expected: list[tuple[str, int]]
) -> None:
    metrics = build(autoscaling={"enabled": True, **targets})["HorizontalPodAutoscaler"]["spec"]["metrics"]

    resources = [metric["resource"] for metric in metrics]
    assert [(each["name"], each["target"]["averageUtilization"]) for each in resources] == expected


def test_a_stopping_pod_has_time_for_its_longest_request_and_for_its_endpoint_to_go() -> None:
    assert pod(agent={"provider": "echo", "requestTimeoutSeconds": 300})["terminationGracePeriodSeconds"] == 315
    assert pod(rollout={"terminationGracePeriodSeconds": 20})["terminationGracePeriodSeconds"] == 20
    assert container()["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}


def test_a_service_of_another_name_cannot_become_a_setting_of_the_agent() -> None:
    assert pod()["enableServiceLinks"] is False


def test_resources_that_are_set_replace_the_default_as_a_whole() -> None:
    assert container()["resources"] == {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}
    assert container(resources={"requests": {"cpu": 1}})["resources"] == {"requests": {"cpu": "1"}}
    assert "resources" not in container(resources={})


def test_the_manager_is_a_label_of_the_objects_and_not_of_the_pods() -> None:
    spec = AgentSpec.model_validate({"agent": {"provider": "echo"}})

    for document in desired("hello", "prod", spec, managed_by="Helm"):
        assert document["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert document["metadata"]["labels"]["app.kubernetes.io/version"] == __version__
    template = build()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert not {"app.kubernetes.io/managed-by", "app.kubernetes.io/version"} & set(template)
