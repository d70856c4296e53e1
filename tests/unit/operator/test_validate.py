"""`agent-operator validate`: every fault of every file on its own line, and warnings for what is legal but unwise."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from agent_operator.api.spec import AgentSpec
from agent_operator.cli import main
from agent_operator.tools.lint import advice, refusals
from agent_operator.tools.validate import validate


def named(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "portside.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": name},
        "spec": {"agent": {"provider": "echo"}, **spec},
    }


def command(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, ["validate", *arguments], input=stdin)


def written(folder: Path, name: str, *documents: dict[str, Any]) -> Path:
    file = folder / name
    file.write_text(yaml.safe_dump_all(documents))
    return file


def test_valid_agents_are_counted(tmp_path: Path) -> None:
    file = written(tmp_path, "a.yaml", named("one"), named("two"), {"apiVersion": "v1", "kind": "ConfigMap"})

    done = command("-f", str(file))

    assert (done.exit_code, done.stdout, done.stderr) == (0, "2 valid\n", "")


def test_every_fault_of_every_file_is_one_line(tmp_path: Path) -> None:
    one = written(tmp_path, "one.yaml", named("one", replicas="2", servce={}), named("fine"))
    two = tmp_path / "two.yaml"
    two.write_text("kind: [")
    three = written(tmp_path, "three.yaml", named("Three"))

    done = command("-f", str(one), "-f", str(two), "-f", str(three), "-f", str(tmp_path / "four.yaml"))

    assert done.exit_code == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert f"Error: {one}: AgentDeployment one: spec.replicas: input should be a valid integer" in lines
    assert f"Error: {one}: AgentDeployment one: spec.servce: unknown field: check its spelling and place" in lines
    assert any(line.startswith(f"Error: {two}: not valid YAML: line 2, column 1") for line in lines)
    assert any(
        line.startswith(f"Error: {three}: AgentDeployment Three: metadata.name: must be") for line in lines
    ) or any(line.startswith(f"Error: {three}: AgentDeployment Three: metadata.name: ") for line in lines)
    assert f"Error: {tmp_path}/four.yaml: no such file or folder" in lines
    assert len(lines) == 5


def test_the_line_of_a_broken_file_is_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("kind: AgentDeployment\nspec: {apiKey: {value: sk-very-secret]\n")

    done = command("-f", str(file))

    assert done.exit_code == 2
    assert "line 2" in done.stderr
    assert "sk-very-secret" not in done.stderr


def test_json_output_has_the_same_content(tmp_path: Path) -> None:
    file = written(tmp_path, "a.yaml", named("one", replicas=-1), named("two", replicas=2))

    done = command("-f", str(file), "-o", "json")

    assert done.exit_code == 2
    verdict = json.loads(done.stdout)
    assert verdict["valid"] == 1
    (error,), (warning,) = verdict["errors"], verdict["warnings"]
    assert (error["file"], error["object"], error["field"]) == (str(file), "AgentDeployment one", "spec.replicas")
    assert (warning["object"], warning["field"]) == ("AgentDeployment two", "spec.replicas")


def test_a_warning_fails_only_with_the_option_for_it() -> None:
    unwise = json.dumps(named("one", replicas=2))

    assert command("-f", "-", stdin=unwise).exit_code == 0
    assert command("-f", "-", "--strict", stdin=unwise).exit_code == 2
    assert command("-f", "-", "--strict", stdin=json.dumps(named("one"))).exit_code == 0


def test_two_agents_of_the_same_name_and_namespace_are_reported(tmp_path: Path) -> None:
    first = written(tmp_path, "a.yaml", named("one"))
    second = written(tmp_path, "b.yaml", named("one"), {**named("one"), "metadata": {"name": "one", "namespace": "b"}})

    verdict = validate([str(first), str(second)], io.StringIO())

    assert [(remark.file, remark.severity) for remark in verdict.remarks] == [(str(second), "warning")]
    assert str(first) in verdict.remarks[0].message


ANTHROPIC = {"agent": {"provider": "anthropic"}, "apiKey": {"secretName": "anthropic"}}
REDIS = {"redis": {"url": "redis://state"}}
PAID = {"budget": {"cost": "1", "prices": {"claude-sonnet-5-5": {"input": "1", "output": "1"}}}, **REDIS}
RUNTIME = {"image": "example.com/agent:1"}
ENVOY = {"name": "envoy", "image": "envoy:1"}
HARDENED = {"readOnlyRootFilesystem": False, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
CLOSED = {"ingress": {"enabled": True, "tlsSecretName": "tls"}, "auth": {"enabled": True}}


@pytest.mark.parametrize(
    ("unwise", "field", "wise"),
    [
        ({**ANTHROPIC, "apiKey": {"value": "sk-x"}}, "spec.apiKey.value", ANTHROPIC),
        ({"replicas": 2}, "spec.replicas", {"replicas": 2, "redis": {"url": "redis://state"}}),
        (
            {"autoscaling": {"enabled": True}},
            "spec.autoscaling.maxReplicas",
            {"autoscaling": {"enabled": True}, "redis": {"secretName": "state"}},
        ),
        (
            {"resources": {"limits": {"cpu": 1}}},
            "spec.resources.limits",
            {"resources": {"limits": {"memory": "1Gi"}}},
        ),
        (
            {"autoscaling": {"enabled": True, "maxReplicas": 1}, "resources": {"limits": {"memory": "1Gi"}}},
            "spec.resources.requests",
            {
                "autoscaling": {"enabled": True, "maxReplicas": 1, "targetInFlightRequests": 5},
                "resources": {"limits": {"memory": "1Gi"}},
            },
        ),
        (
            {"rollout": {"terminationGracePeriodSeconds": 30}},
            "spec.rollout.terminationGracePeriodSeconds",
            {"rollout": {"terminationGracePeriodSeconds": 315}},
        ),
        (
            {
                "agent": {"provider": "echo", "streamTimeoutSeconds": 90},
                "rollout": {"terminationGracePeriodSeconds": 75},
            },
            "spec.rollout.terminationGracePeriodSeconds",
            {
                "agent": {"provider": "echo", "streamTimeoutSeconds": 60},
                "rollout": {"terminationGracePeriodSeconds": 75},
            },
        ),
        (
            {**ANTHROPIC, "ingress": {"enabled": True, "tlsSecretName": "tls"}},
            "spec.ingress",
            {**ANTHROPIC, **CLOSED},
        ),
        ({**ANTHROPIC, "service": {"type": "LoadBalancer"}}, "spec.service.type", ANTHROPIC),
        ({"ingress": {"enabled": True}}, "spec.ingress", CLOSED),
        ({"cors": {"origins": ["*"]}}, "spec.cors.origins", {"cors": {"origins": ["https://a.example"]}}),
        ({"networkPolicy": {"enabled": False}}, "spec.networkPolicy.enabled", {}),
        ({"securityContext": {"readOnlyRootFilesystem": False}}, "spec.securityContext", {"securityContext": HARDENED}),
        (
            {"podSecurityContext": {"runAsUser": 5}},
            "spec.podSecurityContext",
            {"podSecurityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}},
        ),
        (
            {"podSecurityContext": {}},
            "spec.podSecurityContext",
            {
                "podSecurityContext": {},
                "securityContext": {**HARDENED, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            },
        ),
        *(
            (
                {"replicas": 3, **REDIS, "podDisruptionBudget": blocking},
                f"spec.podDisruptionBudget.{next(iter(blocking))}",
                {"replicas": 3, **REDIS, "podDisruptionBudget": wise},
            )
            for blocking, wise in (
                ({"minAvailable": 3}, {"minAvailable": 2}),
                ({"minAvailable": "67%"}, {"minAvailable": "66%"}),
                ({"maxUnavailable": 0}, {"maxUnavailable": "1%"}),
                ({"maxUnavailable": "0%"}, {"minAvailable": 3, "enabled": False}),
            )
        ),
        (
            {"autoscaling": {"enabled": True, "minReplicas": 2}, **REDIS, "podDisruptionBudget": {"minAvailable": 2}},
            "spec.podDisruptionBudget.minAvailable",
            {"replicas": 1, **REDIS, "podDisruptionBudget": {"minAvailable": 2}},
        ),
        (
            {"worker": {"enabled": True, "replicas": 2}, **REDIS, "podDisruptionBudget": {"minAvailable": 2}},
            "spec.podDisruptionBudget.minAvailable",
            {"worker": {"enabled": False, "replicas": 2}, **REDIS, "podDisruptionBudget": {"minAvailable": 2}},
        ),
        (
            {"autoscaling": {"enabled": True}, **REDIS, "sidecars": [{"name": "envoy", "image": "envoy:1"}]},
            "spec.sidecars[0].resources",
            {"autoscaling": {"enabled": True}, **REDIS, "sidecars": [{**ENVOY, "resources": {"limits": {"cpu": 1}}}]},
        ),
        (
            {"autoscaling": {"enabled": True}, **REDIS, "initContainers": [{**ENVOY, "restartPolicy": "Always"}]},
            "spec.initContainers[0].resources",
            {"autoscaling": {"enabled": True}, **REDIS, "initContainers": [ENVOY]},
        ),
        ({"image": {"tag": "latest"}}, "spec.image.tag", {"image": {"tag": "1.0"}}),
        *(
            ({"runtime": {"image": image}}, "spec.runtime.image", {"runtime": {"image": other}})
            for image, other in (
                ("a", "a:1"),
                ("a:latest", f"a@sha256:{'0' * 64}"),
                ("host:5000/a", "host:5000/a:1"),
            )
        ),
        (
            {"runtime": {**RUNTIME, "resources": {}}},
            "spec.runtime.resources.limits",
            {"runtime": {**RUNTIME, "resources": {"limits": {"memory": "1Gi"}}}},
        ),
        (
            {"runtime": {**RUNTIME, "resources": {"limits": {"memory": 1}}}, "autoscaling": {"enabled": True}, **REDIS},
            "spec.runtime.resources",
            {"runtime": {**RUNTIME, "resources": {"limits": {"memory": 1}}}},
        ),
        (
            {"runtime": {**RUNTIME, "securityContext": {"runAsUser": 1}}},
            "spec.runtime.securityContext",
            {"runtime": {**RUNTIME, "securityContext": HARDENED}},
        ),
        (
            {"runtime": {**RUNTIME, "env": [{"name": "A_TOKEN", "value": "x"}]}},
            "spec.runtime.env[0].value",
            {"runtime": {**RUNTIME, "env": [{"name": "A_TOKEN", "valueFrom": {}}]}},
        ),
        (
            {"agent": {"provider": "echo", "models": ["m"]}},
            "spec.agent.models",
            {"agent": {"provider": "echo", "models": ["m"]}, "runtime": RUNTIME},
        ),
        (
            {"runtime": {**RUNTIME, "protocol": "http"}, "worker": {"enabled": True}, **REDIS},
            "spec.worker.enabled",
            {"runtime": RUNTIME, "worker": {"enabled": True}, **REDIS},
        ),
        (
            {"runtime": RUNTIME, **PAID, "agent": {"provider": "echo", "models": ["m"]}},
            "spec.agent.models",
            {"runtime": RUNTIME, **PAID},
        ),
        (
            {**ANTHROPIC, "agent": {"model": "cluade-x"}},
            "spec.agent.model",
            {**ANTHROPIC, "agent": {"model": "cluade-x", "baseUrl": "http://gateway"}},
        ),
        (
            {"extraEnv": [{"name": "SEARCH_API_KEY", "value": "x"}]},
            "spec.extraEnv[0].value",
            {"extraEnv": [{"name": "MAX_TOKENS", "value": "1"}, {"name": "A_KEY", "valueFrom": {}}]},
        ),
    ],
)
def test_a_legal_but_unwise_spec_has_a_warning(unwise: dict[str, Any], field: str, wise: dict[str, Any]) -> None:
    assert [fault.field for fault in advice(spec(unwise))] == [field]
    assert list(advice(spec(wise))) == []


def test_a_pod_that_can_never_exist_is_a_fault() -> None:
    asking: dict[str, Any] = {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1024Mi"}}}

    assert [fault.field for fault in refusals(spec(asking))] == ["spec.resources.requests.memory"]
    assert command("-f", "-", stdin=json.dumps(named("one", **asking))).exit_code == 2
    asking["resources"]["requests"]["memory"] = "1Gi"
    assert list(refusals(spec(asking))) == []
    of_runtime = {"image": "a:1", "resources": {"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}}
    assert [fault.field for fault in refusals(spec({"runtime": of_runtime}))] == ["spec.runtime.resources.requests.cpu"]


def spec(given: dict[str, Any]) -> AgentSpec:
    return AgentSpec.model_validate({"agent": {"provider": "echo"}, **given})


@pytest.mark.parametrize("depth", [65, 300, 5_000])
@pytest.mark.parametrize("tool", ["validate", "render"])
def test_a_document_nested_too_deeply_is_a_fault(tool: str, depth: int) -> None:
    text = json.dumps(named("deep", affinity="DEEP")).replace('"DEEP"', '{"a":' * depth + "1" + "}" * depth)

    done = CliRunner().invoke(main, [tool, "-f", "-"], input=text)

    assert done.exit_code == 2
    assert "nest" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_surrogate_pair_is_one_character(tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    file.write_text(json.dumps(named("hello", podAnnotations={"example.com/a": "\U0001f600"})))

    done = CliRunner().invoke(main, ["render", "-f", str(file)])

    assert "example.com/a: \U0001f600\n" in done.stdout


def test_a_lone_surrogate_is_read_as_go_reads_it() -> None:
    document = named("hello", podAnnotations={"example.com/a": "HALF"})
    half = "\\ud83d"

    in_json = CliRunner().invoke(main, ["render", "-f", "-"], input=json.dumps(document).replace("HALF", half))
    in_yaml = command("-f", "-", stdin=yaml.safe_dump(document).replace("HALF", f'"{half}"'))

    assert "example.com/a: \ufffd\n" in in_json.stdout
    assert "invalid Unicode character escape code" in in_yaml.stderr


def yaml_of(rest: str) -> str:
    return f"apiVersion: portside.dev/v1alpha1\nkind: AgentDeployment\nmetadata: {{name: one}}\nspec:\n{ECHO}{rest}"


ECHO = "  agent: {provider: echo}\n"


@pytest.mark.parametrize(
    ("scalar", "text"),
    [
        *(
            (each, False)
            for each in ("1234e56", "1e3", "0888", "0o17", "0x1F", "1_000", "y", "No", "1.10", "!!int '1'")
        ),
        *((each, True) for each in ("12:30:45", "2026-11-29", "'1e3'", "1e400", "!!str 5", "text", "~")),
    ],
)
def test_a_scalar_is_text_if_it_is_text_to_kubectl(scalar: str, text: bool) -> None:
    done = command("-f", "-", stdin=yaml_of(f"  podAnnotations: {{at: {scalar}}}\n"))

    assert done.exit_code == (0 if text else 2)


@pytest.mark.parametrize("number", ["2.0", "2e0", "0x2", "0b10", "+2", "!!float 2"])
def test_an_integer_is_accepted_in_any_form(number: str) -> None:
    assert command("-f", "-", stdin=yaml_of(f"  redis: {{url: redis://a}}\n  replicas: {number}\n")).exit_code == 0


def test_a_duplicate_key_is_a_warning_and_the_last_counts() -> None:
    done = command("-f", "-", stdin=yaml_of("  replicas: 1\n  replicas: x\n"))

    assert "Warning: standard input: AgentDeployment one: spec.replicas: duplicate field, the last" in done.stderr
    assert "Error: standard input: AgentDeployment one: spec.replicas: input should be" in done.stderr


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"extraEnv": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}, "spec.extraEnv[1]"),
        ({"ingress": {"hosts": ["a", "b", "a"]}}, "spec.ingress.hosts[2]"),
        (
            {
                "topologySpreadConstraints": [
                    {"topologyKey": "zone"},
                    {"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"},
                ]
            },
            "spec.topologySpreadConstraints[1]",
        ),
        ({"sidecars": [ENVOY], "initContainers": [ENVOY]}, "spec.initContainers"),
        ({"extraVolumeMounts": [{"name": "data", "mountPath": "/data"}]}, "spec.extraVolumeMounts"),
        ({"sidecars": [{**ENVOY, "env": [{"name": "A"}, {"name": "A"}]}]}, "spec.sidecars[0].env[1]"),
        ({"runtime": {**RUNTIME, "env": [{"name": "A"}, {"name": "A"}]}}, "spec.runtime.env[1]"),
        (
            {"runtime": {**RUNTIME, "volumeMounts": [{"name": "secrets", "mountPath": "/s"}]}},
            "spec.runtime.volumeMounts",
        ),
        ({"agent": {"provider": "echo", "models": ["m", "m"]}}, "spec.agent.models[1]"),
    ],
)
def test_duplicate_and_dangling_entries_are_refused(spec: dict[str, Any], field: str) -> None:
    done = command("-f", "-", stdin=json.dumps(named("one", **spec)))

    assert done.exit_code == 2
    assert f"AgentDeployment one: {field}: " in done.stderr


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"agent": {"provider": "echo", "max_tokens": 5}}, "spec.agent.max_tokens"),
        ({"image_pull_secrets": []}, "spec.image_pull_secrets"),
        ({"extraVolumeMounts": [{"name": "tmp", "mount_path": "/data"}]}, "spec.extraVolumeMounts[0].mount_path"),
        ({"sidecars": [{**ENVOY, "ports": [{"container_port": 1}]}]}, "spec.sidecars[0].ports[0].containerPort"),
    ],
)
def test_a_field_has_one_spelling(spec: dict[str, Any], field: str) -> None:
    done = command("-f", "-", stdin=json.dumps(named("one", **spec)))

    assert done.exit_code == 2
    assert f"AgentDeployment one: {field}: " in done.stderr


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ({"agent": "echo"}, "spec.agent: should be an object"),
        ({"podLabels": ["a"]}, "spec.podLabels: should be an object"),
        ({"sidecars": ENVOY}, "spec.sidecars: should be a list"),
        ({"sidecars": [{**ENVOY, "env": {"A": "b"}}]}, "spec.sidecars[0].env: should be a list"),
        ({"extraVolumes": [{"name": "v", "configMap": "a"}]}, "spec.extraVolumes[0].configMap: should be an object"),
    ],
)
def test_a_wrong_type_is_reported_without_names_of_python(spec: dict[str, Any], fault: str) -> None:
    done = command("-f", "-", stdin=json.dumps(named("one", **spec)))

    assert done.exit_code == 2
    assert fault in done.stderr


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"metadata": {"name": "one", "labels": {"a": "b c"}}}, "metadata.labels.a"),
        ({"metadata": {"name": "one", "annotations": {"a b": "c"}}}, "metadata.annotations.a b"),
        ({"metadata": {"name": "one", "annotations": {"a": 1}}}, "metadata.annotations.a"),
        ({"metadata": {"name": "one", "label": {}}}, "metadata.label"),
        ({"metadata": {"name": "one", "finalizers": [None]}}, "metadata.finalizers[0]"),
        ({"metadata": {"name": "one", "finalizers": ["a/b", "a b"]}}, "metadata.finalizers[1]"),
        ({"metadata": {"name": "one", "namespace": "A"}}, "metadata.namespace"),
        ({"more": 1}, "more"),
        ({"spec": {"agent": {"provider": "echo", "labels": None}}}, "spec.agent.labels"),
        ({"kind": "AgentDeploymnt"}, "kind"),
    ],
)
def test_fields_outside_the_spec_are_checked(changed: dict[str, Any], field: str) -> None:
    done = command("-f", "-", stdin=json.dumps({**named("one"), **changed}))

    assert done.exit_code == 2
    assert f": {field}: " in done.stderr


def test_lists_byte_order_marks_and_windows_files_are_read(tmp_path: Path) -> None:
    items: dict[str, Any] = {
        "apiVersion": "portside.dev/v1alpha1",
        "kind": "AgentDeploymentList",
        "items": [{"metadata": {"name": "a"}}],
    }
    items["items"][0]["spec"] = {"agent": {"provider": "echo"}}
    (tmp_path / "a.json").write_text(json.dumps(items))
    (tmp_path / "b.yaml").write_bytes(yaml_of("").replace("\n", "\r\n").replace("one", "b").encode("utf-8-sig"))
    (tmp_path / "c.yaml").write_bytes(yaml_of("").replace("one", "c").encode("utf-16"))

    assert command("-f", str(tmp_path)).stdout == "3 valid\n"


def test_documents_before_a_syntax_error_are_validated() -> None:
    done = command("-f", "-", stdin=yaml_of("  replicas: -1\n") + "---\na: [\n")

    assert "spec.replicas: " in done.stderr
    assert "not valid YAML" in done.stderr


def test_aliases_that_would_fill_the_memory_are_refused() -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))

    assert "aliases make the document too large" in command("-f", "-", stdin=f"a0: &a0 [x]\n{levels}").stderr
