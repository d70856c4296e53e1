"""A Python file in the process that `agent-service runtime FILE` or `agent-service tools FILE` starts."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import pytest

from support.agent import COMMAND, environment
from support.eventually import eventually
from testbed.ports import free_port


@dataclass
class RunningFile:
    """A running `agent-service runtime FILE`, or `agent-service tools FILE`."""

    process: subprocess.Popen[bytes]
    url: str
    log_file: Path

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def lines(self, event: str) -> list[dict[str, object]]:
        """Return the lines of the log whose message contains `event`."""
        return [orjson.loads(line) for line in self.log().splitlines() if line.startswith("{") and event in line]

    def ask(self, prompt: str = "Hello", headers: dict[str, str] | None = None, **fields: object) -> httpx.Response:
        body = {"prompt": prompt, **fields}
        return httpx.post(f"{self.url}/invocations", json=body, headers=headers, timeout=60)

    def answers(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"the file's process ended with {self.process.returncode}:\n{self.log()}")
        try:
            return httpx.get(f"{self.url}/ping", timeout=10).status_code in {200, 503}
        except httpx.TransportError:
            return False


@contextmanager
def running_file(file: Path, *options: str, command: str = "runtime", **variables: str) -> Iterator[RunningFile]:
    """Run a file while the context is active; `variables` are added to its environment."""
    port = free_port()
    log_file = file.with_suffix(f".{port}.log")
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [COMMAND, command, str(file), "--port", str(port), *options],
            env=environment(**variables),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    running = RunningFile(process, f"http://127.0.0.1:{port}", log_file)
    try:
        eventually(running.answers, "the file's process answers")
        yield running
    finally:
        process.kill()
        process.wait()


def events(response: httpx.Response) -> list[object]:
    """Return the events of a response, without comments."""
    assert response.headers["content-type"].startswith("text/event-stream"), response.text
    lines = response.text.splitlines()
    return [orjson.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
