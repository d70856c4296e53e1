"""The `claude` program, as the Claude Agent SDK ships it, with an agent as its model."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from support.frameworks import LOCK
from support.virtual_environment import virtual_environment

_ANSWER_SECONDS = 90


def ask_claude(url: str, folder: Path, prompt: str, *options: str, key: str = "none") -> dict[str, Any]:
    """Ask the program, which works and has its home in a folder, and return its result.

    Args:
        url: address of the agent.
        folder: folder of the program; a session that `--continue` goes on with is in it.
        prompt: what the user says.
        options: further options of the program.
        key: client key of the agent.
    """
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": key,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    done = subprocess.run(
        [_program(), "-p", prompt, "--output-format", "json", *options],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_ANSWER_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _program() -> Path:
    installed = virtual_environment("frameworks", LOCK)
    (found,) = installed.glob("lib/python*/site-packages/claude_agent_sdk/_bundled/claude")
    return found
