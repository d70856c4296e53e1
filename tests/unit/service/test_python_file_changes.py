"""What the thread does that loads a changed file again."""

import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent_service.python_file import changes
from agent_service.python_file.agent_file import AgentFile
from portside.models import Models
from support.eventually import eventually


class RecordedModels(Models):
    """Records which version was in force when it was prepared."""

    def __init__(self, agent: AgentFile) -> None:
        super().__init__()
        self._agent = agent
        self.before: list[str] = []

    def warm_up(self) -> None:
        self.before.append(self._agent.current().place)
        raise ValueError("The address is none")


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AgentFile:
    """A file whose function is in line 1, loaded."""
    # Loading adds the file's folder.
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(changes, "_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(changes, "_SETTLED_SECONDS", 0.02)
    agent = AgentFile(tmp_path / "my_agent.py")
    agent.path.write_text("async def answer(turn): return ''\n")
    agent.load()
    return agent


def test_the_sdk_is_imported_before_turns_use_a_version_that_mentions_it(agent: AgentFile) -> None:
    models = RecordedModels(agent)
    with changes.following(agent, models):
        agent.path.write_text("# anthropic\nasync def answer(turn): return ''\n")
        eventually(lambda: agent.current().place.endswith(":2"), "the new version is in force")
    assert models.before == [f"{agent.path}:1"]


def test_a_version_that_does_not_end_loading_is_logged_with_its_line(
    agent: AgentFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_SLOW_SECONDS", 0.1)
    monkeypatch.setattr(sys, "released", False, raising=False)
    with capture_logs() as logs, changes.following(agent, Models()):
        agent.path.write_text("import sys, time\nwhile not sys.released:\n    time.sleep(0.01)\n")
        (line,) = eventually(lambda: [each for each in logs if "still being loaded" in each["event"]], "it is logged")
        assert (line["log_level"], line["file"]) == ("warning", str(agent.path))
        assert line["line"] in {2, 3}
        assert agent.current().place == f"{agent.path}:1"
        monkeypatch.setattr(sys, "released", True, raising=False)
        eventually(lambda: agent.error, "it has ended")
