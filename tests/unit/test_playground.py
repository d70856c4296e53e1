"""`make cluster-up`: what it installs, what can be left out, and what it prints at the end."""

import pytest
from click.testing import CliRunner

from testbed import __main__ as command
from testbed import addons, playground

EVERYTHING = ("operator", "model-api", "redis", "metrics-server")


@pytest.fixture
def brought_up(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """The names of the clusters that the command starts, each with the add-ons left out."""
    calls: list[tuple[str, tuple[str, ...]]] = []

    class FakeCluster:
        level = "node"
        running = True

        def __init__(self, name: str) -> None:
            self.name = name
            self.kubeconfig = f"/{name}/kubeconfig"

    def bring_up(cluster: FakeCluster, level: str, without: tuple[str, ...]) -> None:
        calls.append((cluster.name, without))

    monkeypatch.setattr(command, "OwnCluster", FakeCluster)
    monkeypatch.setattr(playground, "bring_up", bring_up)
    monkeypatch.delenv("WITHOUT", raising=False)
    return calls


def _names(chosen: tuple[addons.Addon, ...]) -> tuple[str, ...]:
    return tuple(addon.name for addon in chosen)


def test_a_playground_has_everything_that_the_documents_use() -> None:
    assert _names(addons.chosen()) == EVERYTHING


def test_each_addon_can_be_left_out() -> None:
    for name in EVERYTHING:
        assert _names(addons.chosen([name])) == tuple(each for each in EVERYTHING if each != name)
    assert addons.chosen(["all"]) == ()


def test_the_command_leaves_out_what_the_variable_names(brought_up: list[tuple[str, tuple[str, ...]]]) -> None:
    result = CliRunner().invoke(command.main, ["up", "--name", "pg"], env={"WITHOUT": "redis metrics-server"})
    assert result.exit_code == 0, result.output
    assert brought_up == [("pg", ("redis", "metrics-server"))]
    assert "/pg/kubeconfig" in result.output


def test_an_empty_variable_leaves_nothing_out(brought_up: list[tuple[str, tuple[str, ...]]]) -> None:
    assert CliRunner().invoke(command.main, ["up"], env={"WITHOUT": ""}).exit_code == 0
    assert brought_up == [("dev", ())]


def test_an_unknown_name_is_rejected_with_the_valid_names(
    brought_up: list[tuple[str, tuple[str, ...]]],
) -> None:
    result = CliRunner().invoke(command.main, ["up"], env={"WITHOUT": "redsi"})
    assert result.exit_code == 2
    assert brought_up == []
    for name in (*EVERYTHING, "all"):
        assert name in result.output


def test_the_help_explains_each_addon_and_how_to_leave_it_out() -> None:
    text = CliRunner().invoke(command.main, ["up", "--help"]).output
    for addon in addons.ADDONS:
        assert addon.summary in text
    assert "WITHOUT" in text


def test_the_last_lines_list_what_is_installed_and_the_next_steps() -> None:
    text = playground.guide("dev", addons.chosen())
    addresses = ("http://model-api.model-api.svc", "redis://redis.redis.svc:6379")
    for word in (*EVERYTHING, *addresses, "docs/tutorials/first-agent.md"):
        assert word in text
    assert 'eval "$(make -s cluster-env)"' in text
    assert "Left out" not in text


def test_the_last_lines_reflect_what_was_left_out_and_the_name() -> None:
    text = playground.guide("pg", addons.chosen(["operator"]))
    assert "Left out: operator. To add it: make cluster-up NAME=pg" in text
    assert "helm install hello-agent helm/agent" in text
    assert "agentdeployment" not in text
    assert "make cluster-down NAME=pg" in text
