"""The commands of the README, and of a tutorial on a laptop, run exactly as written."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from e2e.shell import run_block
from support.docs import command_blocks
from testbed import paths
from testbed.cluster import Cluster

README = (paths.REPOSITORY / "README.md").read_text()
YOUR_AGENT = paths.REPOSITORY / "docs" / "tutorials" / "your-agent.md"


def test_the_quick_start_with_the_operator(playground_cluster: Cluster) -> None:
    [block] = _blocks("With the operator")
    try:
        said = run_block(playground_cluster, block)
    finally:
        playground_cluster.kubectl("delete", "agentdeployment", "hello-agent", "--ignore-not-found")
    assert "agentdeployment.portside.dev/hello-agent condition met" in said
    assert '"response":"You said: Hello"' in said


def test_the_quick_start_with_the_chart_alone(playground_cluster: Cluster) -> None:
    [block] = _blocks("With the chart alone")
    said = run_block(playground_cluster, block)
    assert '"type":"done"' in said
    assert 'release "my-agent" uninstalled' in said


def test_the_quick_start_on_a_laptop(playground_cluster: Cluster) -> None:
    start, ask = _blocks("On a laptop")
    with _running(start):
        assert '"response":"You said: Hello"' in run_block(playground_cluster, ask)


def test_a_file_of_your_own_on_a_laptop(playground_cluster: Cluster) -> None:
    hello, start, ask, streaming, ask_again = (block.text for block in command_blocks(YOUR_AGENT)[:5])
    run_block(playground_cluster, hello)
    with _running(start):
        assert '"response":"You said: Hello"' in run_block(playground_cluster, ask)
        run_block(playground_cluster, streaming)
        answer = run_block(playground_cluster, ask_again)
    assert "berth" in answer
    assert '"type":"done"' in answer


@contextmanager
def _running(start: str) -> Iterator[None]:
    """Run a block that starts a service, until the end of the context."""
    service = subprocess.Popen(
        ["bash", "-ec", start], cwd=paths.REPOSITORY, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait_for("http://localhost:8000/health/ready")
        yield
    finally:
        os.killpg(service.pid, signal.SIGTERM)
        service.wait(30)


def _blocks(heading: str) -> list[str]:
    """Return the bash blocks of one section."""
    section = README.split(f"### {heading}\n")[1].split("\n#")[0]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)


def _wait_for(url: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            httpx.get(url).raise_for_status()
        except httpx.HTTPError:
            assert time.monotonic() < deadline, f"{url} did not answer"
            time.sleep(0.2)
        else:
            return
