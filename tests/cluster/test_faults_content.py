"""Content that tenants may write: any Unicode, any depth, any size. It affects their own agent at most."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.eventually import eventually
from support.operator import COMMAND, Namespace, OperatorProcess, agent, operator, rights_everywhere
from testbed.cluster import Cluster

# Characters beyond the Basic Multilingual Plane, up to the end of Unicode; those that YAML reads as line breaks, marks
# or no text at all; and text that resembles an escape but is not one.
TEXT = '🎉 \U0001d49cgent \U0010fffd é\u4f60 \u2028\u2029\x85\x7f\x9f\ufeff\ufffe\t\\ud83d \\\U0001f600\\ "quoted" <&>'
MANAGED_BY_US = {"app.kubernetes.io/managed-by": "portside-operator", "app.kubernetes.io/name": "portside-agent"}
MEBIBYTE = 1 << 20
SLOW_SECONDS = 240.0


@pytest.fixture(scope="module")
def rights(control_plane: Cluster) -> Iterator[Path]:
    """A kubeconfig with the documented rights on the whole cluster."""
    with rights_everywhere(control_plane, "portside-content-test") as kubeconfig:
        yield kubeconfig


@pytest.fixture(scope="module")
def running(rights: Path) -> Iterator[OperatorProcess]:
    """The operator, on all namespaces."""
    with operator(rights) as process:
        yield process


@pytest.fixture
def here(control_plane: Cluster, namespace: str, running: OperatorProcess) -> Iterator[Namespace]:
    """A fresh namespace, watched by the operator. Its agents are deleted with it: some would break other tests."""
    found = Namespace(control_plane, namespace)
    yield found
    for name in found.kubectl("get", "agentdeployments", "--no-headers").split("\n"):
        if name:
            found.kubectl("delete", "agentdeployment", name.split()[0], "--wait=false")


def everywhere(text: str) -> dict[str, Any]:
    """Return a spec with the text in every field that accepts any text."""
    annotations = {"example.com/note": text}
    container = {"name": "more", "image": "example.com/more:1", "args": [text], "env": [{"name": "A", "value": text}]}
    return {
        "agent": {"provider": "echo", "model": "m", "systemPrompt": text},
        "podAnnotations": annotations,
        "serviceAccount": {"annotations": annotations},
        "service": {"annotations": annotations},
        "ingress": {"enabled": True, "host": "agent.example.com", "annotations": annotations},
        "extraEnv": [{"name": "NOTE", "value": text}],
        "sidecars": [container],
        "initContainers": [{**container, "name": "first"}],
        "runtime": {"image": "example.com/agent:1", "args": [text], "env": [{"name": "A", "value": text}]},
        "extraVolumes": [
            {"name": "note", "downwardAPI": {"items": [{"path": text[0], "fieldRef": {"fieldPath": "metadata.name"}}]}}
        ],
        "budget": {"tokens": 5, "prices": {text[:9]: {"input": "1", "output": "1"}}},
        "redis": {"url": "redis://redis:6379/0"},
    }


def test_any_unicode_reaches_the_objects_unchanged(here: Namespace) -> None:
    document = agent(**everywhere(TEXT))
    document["metadata"]["annotations"] = {"portside.dev/rotate-client-keys": TEXT}
    document["spec"]["auth"] = {"enabled": True}

    here.store(json.dumps(document))

    here.await_condition("Progressing", "True", "RollingOut")
    settings = here.get("configmap")["data"]
    assert settings["SYSTEM_PROMPT"] == TEXT
    template = here.get("deployment")["spec"]["template"]
    assert template["metadata"]["annotations"]["example.com/note"] == TEXT
    containers = {each["name"]: each for each in template["spec"]["containers"] + template["spec"]["initContainers"]}
    assert containers["more"]["args"] == containers["first"]["args"] == containers["runtime"]["args"] == [TEXT]
    assert {"name": "NOTE", "value": TEXT} in containers["agent"]["env"]
    for kind in ("serviceaccount", "service", "ingress"):
        assert here.get(kind)["metadata"]["annotations"]["example.com/note"] == TEXT
    assert (
        here.get("secret", "hello-client-keys")["metadata"]["annotations"]["portside.dev/rotated-client-keys"] == TEXT
    )


def test_objects_with_any_unicode_show_no_drift(here: Namespace, control_plane: Cluster) -> None:
    here.store(json.dumps(agent(**everywhere(TEXT))))
    here.await_condition("Progressing", "True", "RollingOut")

    found = subprocess.run(
        [COMMAND, "diff", "hello", "--namespace", here.name],
        env={**os.environ, "KUBECONFIG": str(control_plane.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (found.stdout, found.stderr, found.returncode) == ("", "", 0)


def test_half_of_a_surrogate_pair_becomes_the_replacement_character_of_go(here: Namespace) -> None:
    document = json.dumps(agent(agent={"provider": "echo", "systemPrompt": "before HALF after"}))

    here.store(document.replace("HALF", "\\ud83d"))

    eventually(lambda: here.find("configmap"), "the ConfigMap is made")
    assert here.get("configmap")["data"]["SYSTEM_PROMPT"] == "before \ufffd after"


@pytest.fixture
def refusing(here: Namespace, control_plane: Cluster) -> Iterator[str]:
    """An admission policy that refuses the Deployments of the namespace, with any Unicode in its message."""
    name, group = f"portside-test-{here.name}", "admissionregistration.k8s.io/v1"
    message = f"no Deployments here \U0001d49c {'🚫' * 1_200}"
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]}
    policy = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "false", "message": message}],
        },
    }
    where = {"matchLabels": {"kubernetes.io/metadata.name": here.name}}
    binding = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": where},
        },
    }
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [policy, binding]})
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=text)
    probe = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "probe"}}
    labels = {"matchLabels": {"a": "b"}}
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    probing = json.dumps({**probe, "spec": {"selector": labels, "template": pod}})

    def is_refused() -> bool:
        # (kubectl reports it on standard error; its standard output is then empty.)
        return not here.kubectl("create", "--dry-run=server", "-o=name", "-f", "-", stdin=probing, check=False).strip()

    eventually(is_refused, "the policy is in force")
    yield message
    control_plane.kubectl("delete", "-f", "-", stdin=text)


def test_a_refusal_with_any_unicode_is_reported_in_the_status_and_in_an_event(here: Namespace, refusing: str) -> None:
    here.apply(agent())

    found = here.await_condition("Ready", "False", "ApplyRefused")

    assert refusing in found["message"]
    events = eventually(
        lambda: [each for each in here.list("events") if each["involvedObject"]["kind"] == "AgentDeployment"],
        "an Event is posted",
    )
    assert events[0]["message"] == found["message"][:1_024]


def nested(depth: int, name: str, field: str = "affinity", around: str = "{}") -> str:
    """Return an agent as JSON, with `depth` levels in a field."""
    document = json.dumps(agent(name, replicas=0, **{field: "NESTED"}))
    return document.replace('"NESTED"', around.replace("{}", '{"a":' * depth + "1" + "}" * depth))


# In affinity the API server accepts 9,998: the stored object is then as deep as anything that it reads.
@pytest.mark.parametrize("depth", [100, 1_200, 5_000, 9_995, 9_998])
def test_an_agent_nested_too_deeply_is_reported_on_itself(here: Namespace, depth: int) -> None:
    here.store(nested(depth, "deep"))
    here.apply(agent("other", replicas=0))

    assert here.kubectl("get", "agentdeployment", "deep", "--no-headers").startswith("deep")
    eventually(
        lambda: here.kubectl("get", "events").count("spec.affinity: has more than 64 levels"), "an Event says so"
    )
    assert "InvalidSpec" in here.kubectl("get", "agentdeployment", "deep", "--no-headers", "--output=wide")
    eventually(lambda: here.find("deployment", "other"), "others are served")
    assert here.find("deployment", "deep") is None
    here.kubectl("delete", "agentdeployment", "deep", "--timeout=30s")


@pytest.mark.parametrize(
    ("field", "around"),
    [
        ("podSecurityContext", "{}"),
        ("securityContext", "{}"),
        ("networkPolicy", '{"ingressFrom":[{}]}'),
        ("networkPolicy", '{"scrapeFrom":[{}]}'),
        ("networkPolicy", '{"extraEgress":[{}]}'),
        ("autoscaling", '{"behavior":{}}'),
        ("worker", '{"autoscaling":{"behavior":{}}}'),
        ("extraEnv", '[{"name":"A","valueFrom":{}}]'),
        ("extraVolumes", '[{"name":"v","x":{}}]'),
        ("sidecars", '[{"name":"c","image":"i","x":{}}]'),
        ("initContainers", '[{"name":"c","image":"i","x":{}}]'),
    ],
)
def test_agents_nested_deeply_in_any_field_can_be_listed_and_deleted(here: Namespace, field: str, around: str) -> None:
    # The deepest that kubectl can read in a list.
    before = around.partition("{}")[0]
    here.store(nested(9_996 - before.count("{") - before.count("["), "deep", field, around))
    here.apply(agent("other", replicas=0))

    eventually(
        lambda: here.kubectl("get", "events").count(f"spec.{field}: has more than 64 levels"), "an Event says so"
    )
    assert "deep" in here.kubectl("get", "agentdeployments", "--output=name")
    eventually(lambda: here.find("deployment", "other"), "others are served")
    here.kubectl("delete", "agentdeployments", "--all", "--timeout=30s")


def test_the_operator_starts_beside_deep_agents_and_deep_managed_fields(here: Namespace, rights: Path) -> None:
    for depth in (1_200, 9_998):
        here.store(nested(depth, f"deep-{depth}"))
    share = {"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": "DEEP"}
    metadata = {"name": "deep", "labels": MANAGED_BY_US, "managedFields": [share]}
    text = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    here.store(text.replace('"DEEP"', '{"f:a":' * 5_000 + "{}" + "}" * 5_000), "configmaps", "api/v1")

    with operator(rights, here.name) as second:
        here.apply(agent("other", replicas=0))
        eventually(lambda: here.find("deployment", "other"), "others are served")
        assert "RecursionError" not in second.log


def test_an_agent_that_becomes_too_deep_keeps_its_objects(here: Namespace) -> None:
    here.apply(agent(replicas=0))
    here.await_condition("Ready", "True", "ScaledToZero")
    patch = '{"spec":{"affinity":' + '{"a":' * 2_000 + "1" + "}" * 2_001 + "}"

    here.kubectl("patch", "agentdeployment", "hello", "--type=merge", f"--patch={patch}")

    eventually(
        lambda: here.kubectl("get", "events").count("spec.affinity: has more than 64 levels"), "an Event says so"
    )
    assert here.find("deployment") is not None
    here.kubectl("patch", "agentdeployment", "hello", "--type=merge", '--patch={"spec":{"affinity":null}}')
    here.await_condition("Ready", "True", "ScaledToZero")


def empty_objects(name: str) -> str:
    """Return an agent of 1.2 MB, with 400,000 objects in it."""
    document = json.dumps(agent(name, replicas=0, networkPolicy={"ingressFrom": [{"x": "MANY"}]}))
    return document.replace('"MANY"', "[" + ",".join(["{}"] * 400_000) + "]")


def long_texts(name: str) -> str:
    """Return a valid agent of 1.2 MB, with long environment variables."""
    variables = [{"name": f"V{number}", "value": "😀" * 4_600} for number in range(64)]
    return json.dumps(agent(name, replicas=0, extraEnv=variables), ensure_ascii=False)


def test_memory_does_not_grow_with_the_size_of_agents(here: Namespace, rights: Path) -> None:
    # Few, as the API server needs a hundred times their size. They were 600 MiB in the operator.
    for number in range(4):
        here.store(empty_objects(f"empty-{number}"))
        here.store(long_texts(f"long-{number}"))

    with operator(rights, here.name) as process:
        here.apply(agent("other", replicas=0))
        for name in ["other", *(f"long-{number}" for number in range(4))]:
            # The API server takes seconds for each write.
            eventually(lambda: here.find("deployment", name), f"{name} is served", SLOW_SECONDS)  # noqa: B023
        peak = process.peak_memory()

    assert peak < 300 * MEBIBYTE


def test_a_quota_bounds_the_number_of_agents(here: Namespace) -> None:
    count = "count/agentdeployments.portside.dev"
    here.apply(
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "agents"}, "spec": {"hard": {count: "1"}}}
    )
    eventually(lambda: here.get("resourcequota", "agents").get("status", {}).get("used", {}).get(count), "it counts")

    here.apply(agent("one", replicas=0))
    refused = here.kubectl("create", "-o=name", "-f", "-", stdin=json.dumps(agent("two", replicas=0)), check=False)

    assert refused == ""
    assert [each["metadata"]["name"] for each in here.list("agentdeployments")] == ["one"]
