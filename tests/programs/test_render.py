"""The commands that need no cluster: render and crd."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_operator.api.crd import class_crd, crd
from support.manifests import documents

COMMAND = Path(sys.executable).parent / "agent-operator"

HELLO: dict[str, Any] = {
    "apiVersion": "portside.dev/v1alpha1",
    "kind": "AgentDeployment",
    "metadata": {"name": "hello"},
    "spec": {"agent": {"provider": "echo"}},
}


def command(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], input=stdin, capture_output=True, text=True, check=False)


def named(name: str, **spec: Any) -> dict[str, Any]:
    return {**HELLO, "metadata": {"name": name}, "spec": {**HELLO["spec"], **spec}}


def names(text: str) -> list[str]:
    return [f"{each['kind']} {each['metadata']['namespace']}/{each['metadata']['name']}" for each in documents(text)]


def test_render_prints_the_objects_of_an_agent_on_standard_input() -> None:
    done = command("render", "-f", "-", stdin=json.dumps(HELLO))

    assert done.returncode == 0
    assert {"ConfigMap default/hello", "Service default/hello", "Deployment default/hello"} <= set(names(done.stdout))


def test_render_reads_all_documents_of_all_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    other = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump_all([named("one"), other, named("two")]))
    (tmp_path / "deeper" / "b.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": [named("three")]})
    )
    (tmp_path / "notes.txt").write_text("not: [yaml")

    done = command("render", "-f", str(tmp_path), "--namespace", "prod")

    assert done.returncode == 0, done.stderr
    assert {name.split("/")[1] for name in names(done.stdout)} == {"one", "two", "three"}
    assert {name.split()[1].split("/")[0] for name in names(done.stdout)} == {"prod"}


def test_render_reports_the_file_object_and_field_of_each_fault(tmp_path: Path) -> None:
    file = tmp_path / "agents.yaml"
    file.write_text(yaml.safe_dump_all([named("one", replicas="2"), named("two", agent={"provider": "anthropic"})]))

    done = command("render", "-f", str(file))

    assert done.returncode == 2
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first == f"Error: {file}: AgentDeployment one: spec.replicas: input should be a valid integer"
    assert second.startswith(
        f"Error: {file}: AgentDeployment two: spec.apiKey: provider anthropic needs a key: set apiKey"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello: [", "not valid YAML"),
        ("- 1\n- 2\n", "contains list where a Kubernetes object is expected"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", "no AgentDeployment found"),
        ("", "no AgentDeployment found"),
        ("apiVersion: portside.dev/v1\nkind: AgentDeployment\nmetadata: {name: a}\n", "apiVersion: should be"),
        ("apiVersion: portside.dev/v1alpha1\nkind: AgentDeployment\nspec: 3\n", "metadata.name: is required"),
        ("apiVersion: v1\nkind: List\nitems: [3]\n", "contains int where a Kubernetes object is expected"),
        ("kind: AgentDeployment\nmetadata: [a]\n", "metadata.name: is required"),
    ],
)
def test_render_describes_the_problem_with_a_file(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.yaml").write_text(text)

    done = command("render", "-f", str(tmp_path / "a.yaml"))

    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_render_accepts_several_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_text(json.dumps(named(name)))

    done = command("render", "-f", str(tmp_path / "one.json"), "-f", str(tmp_path / "two.json"))

    assert {name.split("/")[1] for name in names(done.stdout)} == {"one", "two"}


def test_render_reports_a_missing_file(tmp_path: Path) -> None:
    done = command("render", "-f", str(tmp_path / "none.yaml"))

    assert (done.returncode, done.stderr) == (2, f"Error: {tmp_path}/none.yaml: no such file or folder\n")


def test_a_null_field_counts_as_unset() -> None:
    done = command("render", "-f", "-", stdin=json.dumps(named("hello", replicas=None, image={"tag": None})))

    deployment = documents(done.stdout)[-1]
    assert deployment["spec"]["replicas"] == 1


def test_crd_prints_the_definition() -> None:
    assert list(yaml.safe_load_all(command("crd").stdout)) == [crd(), class_crd()]


def test_version_is_that_of_the_distribution() -> None:
    assert command("--version").stdout == f"agent-operator, version {version('portside')}\n"


def test_rendered_objects_have_their_own_client_keys_and_can_be_applied() -> None:
    agent = json.dumps(named("hello", auth={"enabled": True}))
    rendered = [command("render", "-f", "-", stdin=agent).stdout for _ in range(2)]

    first, second = (
        each["stringData"]["API_KEYS"]
        for text in rendered
        for each in documents(text)
        if each["metadata"]["name"] == "hello-client-keys"
    )
    assert len(first) >= 43
    assert first != second
