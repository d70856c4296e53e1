"""Run commands as a user would paste them, in a shell set up as `make cluster-env` prints."""

import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from testbed import commands, paths
from testbed.cluster import Cluster

BLOCK_SECONDS = 300


def run_block(cluster: Cluster, block: str, name: str = "") -> str:
    """Run the lines of `block`, end the background processes that they left, and return the output.

    PATH is the one of `make cluster-env`, and `name` that of the cluster for other targets of make. The first command
    that fails ends the block and fails the test.
    """
    # A pipe instead of the file would stay open as long as the background processes run.
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryDirectory() as links:
        path = f"{commands.search_path(Path(links))}:{os.environ['PATH']}"
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=paths.REPOSITORY,
            env=cluster.environment | {"PATH": path, "NAME": name},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code: int | None = shell.wait(BLOCK_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with suppress(ProcessLookupError):  # no process may be left
                os.killpg(shell.pid, signal.SIGTERM)
        said.seek(0)
        text = said.read()
    assert code is not None, f"not within {BLOCK_SECONDS} s:\n{block}\n{text}"
    assert code == 0, f"{block}\n{text}"
    return text
