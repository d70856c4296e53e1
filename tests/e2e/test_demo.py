"""The commands of the README's quick start, run as a person runs them, on clusters of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testbed import paths

DEMO_SECONDS = 400
pytestmark = pytest.mark.usefixtures("built_images")


def test_the_demo_ends_with_an_answer_out_of_a_pod_and_leaves_nothing_behind() -> None:
    name = f"demo-{os.getpid()}"
    demo = _demo(name)
    said, _ = demo.communicate(timeout=DEMO_SECONDS)
    assert demo.returncode == 0, said
    assert "Is anybody in that pod?" in said
    assert '"type":"done"' in said.replace('"type": "done"', '"type":"done"')
    assert "agent_http_requests_total" in said
    assert "hello-agent" in said
    assert _remains(name) == []


def test_an_interrupted_demo_leaves_nothing_behind() -> None:
    name = f"interrupted-{os.getpid()}"
    demo = _demo(name)
    assert demo.stdout is not None
    try:
        for line in demo.stdout:
            if "Installing the operator" in line:
                demo.send_signal(signal.SIGINT)
                break
        said = demo.stdout.read()
        assert demo.wait(DEMO_SECONDS) == 130, said
    finally:
        demo.kill()
        demo.wait()
    assert "Traceback" not in said
    assert _remains(name) == []


def test_one_who_is_not_root_is_told_so_plainly() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-m", "testbed", "up", "--name", "not-root"],
        env=_environment() | {"PORTSIDE_CACHE": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "needs root" in done.stderr
    assert "Traceback" not in done.stderr


def _demo(name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "testbed", "demo", "--cluster=own", "--name", name],
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
    )


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(paths.REPOSITORY / "tests")}


def _remains(name: str) -> list[str]:
    """What is still there of the cluster of this name: its folder, processes, cgroups, and its link."""
    folder = paths.clusters() / name
    found = [str(folder)] if folder.exists() else []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
        except OSError:
            continue
        if f"{folder}/" in command:
            found.append(command)
    found += [str(cgroup) for cgroup in Path("/sys/fs/cgroup").glob(f"**/portside-{name}")]
    return found
