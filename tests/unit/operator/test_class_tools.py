"""The tools with classes: what they render, report and show, and which classes they use."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import AgentSpec
from agent_operator.classes.choice import apply_class, classes_of
from agent_operator.cli import agent as commands
from agent_operator.tools.live_classes import applied
from agent_operator.tools.show import shown, to_json, to_text
from agent_operator.tools.validate import validate
from testbed.paths import REPOSITORY

AGENT = """
apiVersion: portside.dev/v1alpha1
kind: AgentDeployment
metadata: {name: hello}
spec:
  agent: {provider: echo}
"""
NAMED = f"{AGENT}  className: standard\n"
CLASS: dict[str, Any] = {
    "apiVersion": "portside.dev/v1alpha1",
    "kind": "AgentClass",
    "metadata": {"name": "standard"},
    "spec": {"defaults": {"agent": {"model": "claude-haiku-5"}}, "bounds": {"replicas": {"max": 3}}},
}


@pytest.fixture
def class_file(tmp_path: Path) -> str:
    file = tmp_path / "class.yaml"
    file.write_text(json.dumps(CLASS))
    return str(file)


def run(*arguments: str, stdin: str = "") -> tuple[int, str]:
    done = CliRunner().invoke(commands, arguments, input=stdin)
    return done.exit_code, done.output


def test_render_applies_the_defaults_of_the_class(class_file: str) -> None:
    code, output = run("render", "-f", "-", "--class", class_file, stdin=NAMED)

    assert code == 0
    assert "DEFAULT_MODEL: claude-haiku-5" in output


@pytest.mark.parametrize("command", ["render", "validate"])
def test_what_the_class_refuses_is_a_fault_of_the_file(class_file: str, command: str) -> None:
    code, output = run(command, "-f", "-", "--class", class_file, stdin=f"{NAMED}  replicas: 4\n")

    assert code == 2
    assert "standard input: AgentDeployment hello: spec.replicas: exceeds the maximum of the class" in output


def test_render_needs_the_class_that_an_agent_names_and_validate_warns(class_file: str) -> None:
    sentence = "spec.className: names an AgentClass: specify a file that contains it with --class"

    assert run("render", "-f", "-", stdin=NAMED) == (2, f"Error: standard input: AgentDeployment hello: {sentence}\n")
    code, output = run("validate", "-f", "-", stdin=NAMED)
    assert code == 0
    assert f"Warning: standard input: AgentDeployment hello: {sentence}" in output
    assert run("validate", "-f", "-", "--class", class_file, stdin=NAMED) == (0, "1 valid\n")


def test_a_class_in_a_file_is_validated_and_not_rendered() -> None:
    wrong = json.dumps({**CLASS, "spec": {"bounds": {"model": []}}})

    verdict = validate(["-"], io.StringIO(f"{AGENT}---\n{json.dumps(CLASS)}\n---\n{wrong}\n"))

    assert verdict.valid == 2
    assert [str(each) for each in verdict.errors] == [
        "standard input: AgentClass standard: spec.bounds.model: unknown field: check its spelling and place"
    ]
    code, output = run("render", "-f", "-", stdin=f"{AGENT}---\n{json.dumps(CLASS)}\n")
    assert code == 0
    assert "AgentClass" not in output


def test_validate_warns_for_a_class_that_refuses_its_own_defaults() -> None:
    contradictory = {**CLASS, "spec": {"defaults": {"replicas": 6}, "bounds": {"replicas": {"max": 5}}}}

    code, output = run("validate", "-f", "-", stdin=json.dumps(contradictory))

    assert code == 0
    assert (
        "standard input: AgentClass standard: spec.defaults.replicas: exceeds the maximum of the class "
        "(bounds.replicas.max): the class refuses each agent that has this default"
    ) in output


def test_a_file_that_is_no_class_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(AGENT)

    code, output = run("validate", "-f", "-", "--class", str(file), stdin=AGENT)

    assert code == 2
    assert "no AgentClass found" in output


def deployment(**spec: Any) -> AgentDeployment:
    return AgentDeployment("hello", "prod", AgentSpec.model_validate({"agent": {"provider": "echo"}, **spec}))


def test_show_has_each_value_with_its_origin_and_no_secret() -> None:
    env = [{"name": "TOKEN", "value": "secret-1"}]
    given = deployment(
        className="standard",
        apiKey={"value": "secret-2"},
        extraEnv=env,
        sidecars=[{"name": "a", "image": "b", "env": env}],
        tolerations=[{"key": "gpu", "value": "shown"}],
    )

    found = shown(apply_class(given, classes_of([CLASS])))

    text = to_text(found)
    rows = {line.split()[0]: line.split()[1] for line in text.splitlines()[3:]}
    assert "Agent hello in namespace prod has the class standard." in text
    assert rows["agent.model"] == "class"
    assert rows["agent.provider"] == "spec"
    assert rows["replicas"] == "default"
    assert "secret-" not in text + to_json(found)
    assert "shown" in text
    assert json.loads(to_json(found))["class"] == "standard"


def test_show_of_a_refused_agent_has_its_own_values_and_the_reason() -> None:
    found = shown(apply_class(deployment(className="standard", replicas=4), classes_of([CLASS])))

    origins = {value.field: value.origin for value in found.values}
    assert origins["replicas"] == "spec"
    assert origins["agent.model"] == "default"
    assert found.refusal is not None
    assert "spec.replicas" in found.refusal


def test_without_the_right_to_read_classes_only_agents_without_a_class_are_known() -> None:
    assert applied(deployment(), None, {}).refusal is None
    for given, status in ((deployment(className="standard"), {}), (deployment(), {"className": "standard"})):
        refusal = applied(given, None, status).refusal
        assert refusal is not None
        assert "specify a file that contains the class with --class" in str(refusal)


def test_a_class_that_only_the_operator_has_is_unknown_and_not_missing() -> None:
    of_cluster = classes_of([CLASS])

    refusal = applied(deployment(className="of-its-file"), of_cluster, {"className": "of-its-file"}).refusal
    assert refusal is not None
    assert "it is not in the cluster but in the operator" in str(refusal)
    # A class that is there is applied, also in place of the one before.
    assert applied(deployment(className="standard"), of_cluster, {"className": "of-its-file"}).refusal is None
    assert applied(deployment(), of_cluster, {"className": "standard"}).name is None


def test_the_sample_of_a_class_is_valid_and_lets_a_plain_agent_be() -> None:
    file = REPOSITORY / "manifests" / "classes" / "standard.yaml"
    plain = {**json.loads(json.dumps(CLASS)), "kind": "AgentDeployment", "spec": {"className": "standard"}}

    code, output = run("validate", "-f", "-", "--class", str(file), stdin=json.dumps(plain))

    assert (code, output) == (0, "1 valid\n")
