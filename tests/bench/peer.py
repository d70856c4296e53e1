"""LiteLLM's proxy in its own Python environment: the peer that the agent API is compared with."""

import re
import subprocess
import sys
from pathlib import Path

from testbed import paths
from testbed.console import step
from testbed.errors import TestbedError

# Made by `uv pip compile --python-version 3.11 --generate-hashes` from `litellm[proxy]>=1.106,<1.107`.
_LOCK = Path(__file__).with_name("litellm.txt")


def version() -> str:
    """Return the pinned version."""
    found = re.search(r"^litellm==(\S+)", _LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise TestbedError(f"{_LOCK} does not name LiteLLM.")
    return found[1]


def environment() -> Path:
    """Return the folder of the environment, created in the cache if it is missing."""
    folder = paths.cache() / f"litellm-{version()}"
    whole = folder / ".whole"
    if not whole.exists():
        with step(
            f"Installing LiteLLM {version()} for comparison (some 120 packages; --without-litellm leaves it out)"
        ):
            folder.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            uv: list[str | Path] = [Path(sys.executable).with_name("uv"), "pip", "install", "--quiet"]
            python = folder / "bin" / "python"
            done = subprocess.run([*uv, "--require-hashes", "--python", python, "--requirement", _LOCK], check=False)
            if done.returncode != 0:
                raise TestbedError("LiteLLM could not be installed (is the network there?); --without-litellm works.")
            whole.touch()
    return folder
