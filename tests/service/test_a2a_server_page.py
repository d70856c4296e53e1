"""The commands and the program of docs/how-to/clients/a2a.md, run as written there."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import Service, environment, running_service
from support.redis_server import RedisServer

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "clients" / "a2a.md").read_text(encoding="utf-8")
# A command or a program, and the output that the page shows for it.
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```\n+```(?:json|text)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def agent(redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run the agent that the page starts, with its state in the tests' Redis."""
    with running_service(
        tmp_path_factory.mktemp("agent"),
        MODEL_PROVIDER="echo",
        REDIS_URL=redis_process.url,
        AGENT_NAME="clerk",
        AGENT_DESCRIPTION="Sorts letters.",
    ) as running:
        yield running


def test_the_page_has_a_card_a_program_and_a_command() -> None:
    assert [kind for kind, _, _ in BLOCKS] == ["bash", "python", "bash"]


@pytest.mark.parametrize(("kind", "text", "shown"), BLOCKS, ids=["card", "program", "curl"])
def test_what_the_page_runs_prints_what_the_page_shows(kind: str, text: str, shown: str, agent: Service) -> None:
    text, shown = (each.replace("localhost:8000", agent.url.removeprefix("http://")) for each in (text, shown))
    command = ["bash", "-euo", "pipefail", "-c", text] if kind == "bash" else [sys.executable, "-c", text]

    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    # `…` stands for anything.
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("…"))
    assert re.fullmatch(pattern, done.stdout.strip(), re.DOTALL), done.stdout
