"""Clients of OpenAI's APIs that other people wrote: Vercel's AI SDK."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from support.npm import node, packages

_HERE = Path(__file__).parent
_SECONDS = 60


def ai_sdk(url: str, **asked: Any) -> dict[str, Any]:
    """Ask an agent through the AI SDK, and return what the SDK returns; `ai_sdk.mjs` describes the arguments."""
    # A module is resolved from its own folder.
    script = packages(_HERE).parent / "ai_sdk.mjs"
    shutil.copy(_HERE / "ai_sdk.mjs", script)
    argument = json.dumps({"url": url, "key": "none", "api": "chat", "stream": False, **asked})
    done = subprocess.run([node(), script, argument], capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
