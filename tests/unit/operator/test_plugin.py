"""`kubectl agent`: the tools, without the operator itself."""

import pytest
from click.testing import CliRunner

from agent_operator.cli import agent
from agent_operator.tools.commands import COMMANDS
from agent_operator.tools.completion import candidates
from agent_operator.tools.errors import ToolError


def test_the_plugin_has_every_tool_and_no_operator() -> None:
    tools = {"crd", "show", "render", "validate", "diff", "doctor", "import", "logs", "keys", "usage"}
    tools |= {"approvals", "approve", "reject"}
    assert set(agent.commands) == tools


@pytest.mark.parametrize("command", [each.name for each in COMMANDS if each.name != "crd"])
def test_every_tool_has_examples_in_its_help(command: str) -> None:
    done = CliRunner().invoke(agent, [command, "--help"])

    assert done.exit_code == 0
    assert f"Examples:\n    {command} " in done.stdout


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["val"], ["validate", ":4"]),
        (["validate", "-o", ""], ["text", "json", ":4"]),
        (["doctor", "--all"], ["--all-namespaces", ":4"]),
        (["validate", "-f", ""], [":0"]),
    ],
)
def test_it_supports_completion_by_kubectl(words: list[str], lines: list[str]) -> None:
    assert [line.partition("\t")[0] for line in candidates(agent, words)] == lines


def test_an_internal_error_is_one_line_without_the_message_of_the_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("sk-very-secret")

    monkeypatch.setattr("agent_operator.tools.commands.render_agents", broken)

    done = CliRunner().invoke(agent, ["render", "-f", "-"])

    assert done.exit_code == 2
    assert done.stderr.startswith("Error: Internal error: KeyError in broken, line ")
    assert len(done.stderr.splitlines()) == 1
    assert "sk-very-secret" not in done.stderr


def test_all_lines_of_an_error_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise ToolError("one", "two")

    monkeypatch.setattr("agent_operator.tools.commands.render_agents", refused)

    assert CliRunner().invoke(agent, ["render", "-f", "-"]).stderr == "Error: one\nError: two\n"
