"""What the thread does that loads a changed file again."""

import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent_service.python_file import changes
from agent_service.python_file.agent_file import AgentFile
from agent_service.python_file.answer_function import Loaded, find_answer
from support.eventually import eventually


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AgentFile[Loaded]:
    """A file whose function is in line 1, loaded."""
    # Loading adds the file's folder.
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(changes, "_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(changes, "_SETTLED_SECONDS", 0.02)
    agent = AgentFile(tmp_path / "my_agent.py", find_answer)
    agent.path.write_text("async def answer(turn): return ''\n")
    agent.load()
    return agent


def test_what_turns_would_wait_for_is_prepared_before_they_use_a_version(agent: AgentFile[Loaded]) -> None:
    before: list[str] = []

    def prepare() -> None:
        before.append(agent.current().place)
        raise ValueError("It cannot be prepared")

    with changes.following(agent, prepare):
        agent.path.write_text("# A comment\nasync def answer(turn): return ''\n")
        eventually(lambda: agent.current().place.endswith(":2"), "the new version is in force")
    assert before == [f"{agent.path}:1"]


def test_a_version_that_does_not_end_loading_is_logged_with_its_line(
    agent: AgentFile[Loaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Before the file runs, what the version before left is collected, which takes up to a second in a process of tests.
    monkeypatch.setattr(changes, "_SLOW_SECONDS", 4.0)
    monkeypatch.setattr(sys, "released", False, raising=False)
    with capture_logs() as logs, changes.following(agent):
        agent.path.write_text("import sys, time\nwhile not sys.released:\n    time.sleep(0.01)\n")
        (line,) = eventually(lambda: [each for each in logs if "still being loaded" in each["event"]], "it is logged")
        assert (line["log_level"], line["file"]) == ("warning", str(agent.path))
        assert line["line"] in {2, 3}
        assert agent.current().place == f"{agent.path}:1"
        monkeypatch.setattr(sys, "released", True, raising=False)
        eventually(lambda: agent.error, "it has ended")
