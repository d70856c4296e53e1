"""The commands and the program of docs/how-to/clients/mcp.md, run as written there."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import Service, environment, running_service
from support.frameworks import LOCK
from support.redis_server import RedisServer
from support.virtual_environment import virtual_environment

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "clients" / "mcp.md").read_text(encoding="utf-8")
# Commands or a program, and the output that the page shows for them.
BLOCKS = {
    kind: (text, shown)
    for kind, text, shown in re.findall(r"```(bash|python)\n(.*?)```\n+```text\n(.*?)```", PAGE, re.DOTALL)
}


@pytest.fixture(scope="module")
def agent(redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run the agent that the page starts, with its state in the tests' Redis."""
    started = re.search(r"^MODEL_PROVIDER=echo API_MCP=true AGENT_NAME=clerk ", PAGE, re.MULTILINE)
    assert started is not None
    settings = {"MODEL_PROVIDER": "echo", "API_MCP": "true", "AGENT_NAME": "clerk", "REDIS_URL": redis_process.url}
    with running_service(tmp_path_factory.mktemp("agent"), **settings) as running:
        yield running


def check(output: str, shown: str) -> None:
    """Check the output of a block. `…` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("…"))
    assert re.fullmatch(pattern, output.strip(), re.DOTALL), output


def of_page(kind: str, agent: Service) -> tuple[str, str]:
    text, shown = (each.replace("localhost:8000", agent.url.removeprefix("http://")) for each in BLOCKS[kind])
    return text, shown


def test_the_program_prints_what_the_page_shows(agent: Service) -> None:
    program, shown = of_page("python", agent)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    check(done.stdout, shown)


def test_claude_code_connects(agent: Service, tmp_path: Path) -> None:
    installed = virtual_environment("frameworks", LOCK)
    (claude,) = installed.glob("lib/python*/site-packages/claude_agent_sdk/_bundled/claude")
    commands, shown = of_page("bash", agent)
    own = {
        "PATH": f"{claude.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        env=environment(**own),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    check(done.stdout, shown)
