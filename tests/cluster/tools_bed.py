"""Helpers of the tests of the tools: a command of `agent-operator` as a user runs it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from support.operator import COMMAND, Namespace


def tool(
    here: Namespace, command: str, *arguments: str, stdin: str = "", kubeconfig: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a tool on the namespace, with the rights of `kubeconfig` or, by default, all rights."""
    return subprocess.run(
        [COMMAND, command, "--namespace", here.name, *arguments],
        input=stdin,
        env=os.environ | {"KUBECONFIG": str(kubeconfig or here.cluster.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )


def report(here: Namespace, name: str = "hello") -> dict[str, Any]:
    """Return the doctor's report on an agent."""
    done = tool(here, "doctor", name, "-o", "json")
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def cause(here: Namespace, name: str = "hello") -> dict[str, Any]:
    """Return the doctor's cause why an agent is not ready."""
    found = report(here, name)
    assert found["ready"] is False, found
    first: dict[str, Any] = found["cause"]
    return first
