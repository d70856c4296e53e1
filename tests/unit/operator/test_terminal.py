"""Untrusted text in files, pods and the API server does not control the terminal of a user of the tools."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent_operator.cli import main
from agent_operator.tools.terminal import UNSAFE, harmless
from support.manifests import documents

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2066 \x08\r\x00\u2028\u200fend"


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, [*arguments], input=stdin)


def agent(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "portside.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": "hello"},
        "spec": {"agent": {"provider": "echo"}} | spec,
    }


def unsafe(text: str) -> list[str]:
    return UNSAFE.findall(text)


@pytest.mark.parametrize("output", ["text", "json"])
def test_validate_escapes_the_names_in_a_file(output: str) -> None:
    document = agent(**{HOSTILE: 1, "replicas": HOSTILE})
    document["metadata"] = {"name": HOSTILE, "namespace": HOSTILE}
    done = run("validate", "-f", "-", "-o", output, stdin=json.dumps(document))
    assert done.exit_code == 2
    assert unsafe(done.output) == []
    assert "owned" in done.output
    if output == "json":
        assert any(each["field"] == f"spec.{HOSTILE}" for each in json.loads(done.stdout)["errors"])


def test_the_name_of_a_hostile_file_is_escaped(tmp_path: Path) -> None:
    file = tmp_path / "\x1b[2J\u202e.yaml"
    file.write_text("kind: {")
    done = run("validate", "-f", str(file))
    assert done.exit_code == 2
    assert unsafe(done.output) == []
    assert "\\u001b[2J\\u202e.yaml" in done.output


def test_the_output_of_render_means_the_same_as_the_file() -> None:
    text = f"Say {HOSTILE.replace(chr(0), '')}"
    done = run("render", "-f", "-", stdin=json.dumps(agent(agent={"provider": "echo", "systemPrompt": text})))
    assert done.exit_code == 0, done.output
    assert unsafe(done.output) == []
    [config] = [each for each in documents(done.stdout) if each["kind"] == "ConfigMap"]
    assert config["data"]["SYSTEM_PROMPT"] == text


def test_harmless_text_is_unchanged() -> None:
    text = "Grüße, 你好, שלום, 😀 👩\u200d🔬\n\tindented"
    assert harmless(text) == text


def test_the_tools_print_only_through_that_function() -> None:
    tools = Path(__file__).parents[3] / "operator" / "agent_operator" / "tools"
    others = [
        file.name
        for file in tools.rglob("*.py")
        if file.name != "terminal.py" and re.search(r"click\.s?echo|\bprint\(|sys\.std(out|err)", file.read_text())
    ]
    assert others == []
