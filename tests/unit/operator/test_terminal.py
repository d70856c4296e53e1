"""What others wrote, in files, pods and the API server, does not control the terminal of who runs the tools."""

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
def test_validate_shows_the_names_in_a_file_in_a_visible_form(output: str) -> None:
    document = agent(**{HOSTILE: 1, "replicas": HOSTILE})
    document["metadata"] = {"name": HOSTILE, "namespace": HOSTILE}
    done = run("validate", "-f", "-", "-o", output, stdin=json.dumps(document))
    assert done.exit_code == 2
    assert unsafe(done.output) == []
    assert "owned" in done.output
    if output == "json":
        assert any(each["field"] == f"spec.{HOSTILE}" for each in json.loads(done.stdout)["errors"])


def test_a_file_with_a_hostile_name_is_named_in_a_visible_form(tmp_path: Path) -> None:
    file = tmp_path / "\x1b[2J\u202e.yaml"
    file.write_text("kind: {")
    done = run("validate", "-f", str(file))
    assert done.exit_code == 2
    assert unsafe(done.output) == []
    assert "\\u001b[2J\\u202e.yaml" in done.output


def test_what_render_prints_means_what_the_file_meant() -> None:
    text = f"Say {HOSTILE.replace(chr(0), '')}"
    done = run("render", "-f", "-", stdin=json.dumps(agent(agent={"provider": "echo", "systemPrompt": text})))
    assert done.exit_code == 0, done.output
    assert unsafe(done.output) == []
    [config] = [each for each in documents(done.stdout) if each["kind"] == "ConfigMap"]
    assert config["data"]["SYSTEM_PROMPT"] == text


def test_what_is_harmless_stays_as_it_is() -> None:
    text = "Grüße, 你好, שלום, 😀 👩\u200d🔬\n\tindented"
    assert harmless(text) == text


def test_the_tools_print_by_that_one_way_alone() -> None:
    tools = Path(__file__).parents[3] / "operator" / "agent_operator" / "tools"
    others = [
        file.name
        for file in tools.rglob("*.py")
        if file.name != "terminal.py" and re.search(r"click\.s?echo|\bprint\(|sys\.std(out|err)", file.read_text())
    ]
    assert others == []
