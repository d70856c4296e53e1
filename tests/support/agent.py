"""The agent API as its users run it: a process configured by its environment."""

import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import yaml

from agent_service.config.settings import Settings
from support.eventually import eventually
from testbed.ports import free_port

COMMAND = str(Path(sys.executable).with_name("agent-service"))
START_SECONDS = 60.0

# The key that the tests configure for the service; the stand-in accepts any key without one of its fault prefixes.
KEY = "sk-stand-in-key-0001"
# Requests of one client per minute. Tests repeat requests until something has happened: with the default limit, one
# that has to wait would be refused. It is not 0, so that the limits and their Redis are used as with the default.
RATE_LIMIT = "10000"
# Part of the command line of each process that answers requests, where there is more than one.
API_PROCESS = "agent_service.server.multiprocess.child"

SETTING_NAMES = {name.upper() for name in Settings.model_fields} | {"PORT"}


def environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.upper() not in SETTING_NAMES}
    return {**kept, **settings}


def run_agent_service(*arguments: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder` until it exits, configured by `settings` alone."""
    return subprocess.run(
        [COMMAND, *arguments],
        env=environment(**settings),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


# httpx would load the system's certificates for each request, which takes longer than the request itself.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def command_line(pid: int) -> str:
    """Return the command line of a process; empty if the process is gone or a zombie."""
    found = b""
    try:
        # It is also empty for a moment while the process executes a program (execve(2)).
        while not found and not _is_zombie(pid):
            found = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return found.replace(b"\0", b" ").decode()


def _is_zombie(pid: int) -> bool:
    # The state follows the name in parentheses, which may contain any character (proc(5)).
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2][0] in "ZX"


@dataclass
class Service:
    """A running `agent-service serve`."""

    process: subprocess.Popen[bytes]
    url: str
    log_file: Path

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def post(self, path: str, **body: object) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=30, verify=_NO_TLS)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30, verify=_NO_TLS)

    def metric(self, line_start: str) -> float:
        """Return the value of the one sample whose line starts with `line_start`; 0 without such a sample."""
        lines = [line for line in self.get("/metrics").text.splitlines() if line.startswith(line_start)]
        assert len(lines) <= 1, lines
        return float(lines[0].rsplit(" ", 1)[1]) if lines else 0.0

    def children(self, word: str = "") -> list[int]:
        """Return the ids of the child processes whose command line contains `word`."""
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            # A thread may have ended since it was listed.
            with suppress(FileNotFoundError, ProcessLookupError):
                found += [int(pid) for pid in (task / "children").read_text(encoding="ascii").split()]
        return sorted(pid for pid in found if word in command_line(pid))

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 30.0) -> int:
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Kill the process and its API processes, and wait until they are gone.

        An API process that survived would run until it notices that its supervisor is gone. Until then it would call
        the next test's model API.
        """
        if self.process.poll() is not None:
            return
        children = self.children(API_PROCESS)
        self.process.kill()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        eventually(lambda: not any(map(command_line, children)), "its API processes are gone")


@contextmanager
def running_service(
    folder: Path,
    command: str = "serve",
    *,
    options: Sequence[str] = (),
    host: str = "127.0.0.1",
    descriptors: str = "",
    port: str = "",
    awaits: str = "tools",
    **settings: str,
) -> Iterator[Service]:
    """Run a service while the context is active.

    It listens on a free port, unless `port` is given. `options` are further words of its command line. `host` is the
    address to listen on; empty means the service's own default. `descriptors` is the soft and the hard limit of open
    files, separated by a space. When the context begins, it is connected to its tool servers, for which its first turn
    would wait for some seconds only; not if `awaits` is empty. Unless RATE_LIMIT_REQUESTS is given, a client may send
    more requests than any test does.
    """
    port = port or str(free_port())
    limited = ["sh", "-c", 'ulimit -Sn "$0"; ulimit -Hn "$1"; shift; exec "$@"', *descriptors.split()]
    log_file = folder / f"service-{port}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [
                *(limited if descriptors else ()),
                COMMAND,
                command,
                *(("--host", host) if host else ()),
                "--port",
                port,
                *options,
            ],
            env=environment(**{"RATE_LIMIT_REQUESTS": RATE_LIMIT, **settings}),
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    service = Service(process, f"http://127.0.0.1:{port}", log_file)
    try:
        eventually(lambda: _listens(service), f"the service answers; its log:\n{service.log()}", START_SECONDS)
        if awaits and "TOOLS_FILE" in settings:
            metrics = replace(service, url=f"http://127.0.0.1:{settings.get('METRICS_PORT', port)}")
            eventually(lambda: _has_tools(metrics, Path(settings["TOOLS_FILE"])), "it is connected to its tool servers")
        yield service
    finally:
        service.kill()


def _listens(service: Service) -> bool:
    if service.process.poll() is not None:
        pytest.fail(f"the service ended with {service.process.returncode}:\n{service.log()}")
    try:
        return service.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False


def _has_tools(metrics: Service, file: Path) -> bool:
    entries = yaml.safe_load(file.read_text(encoding="utf-8"))["tools"]
    return all(
        metrics.metric(f'agent_tool_server_up{{server="{entry["name"]}"}}') == 1 for entry in entries if "mcp" in entry
    )


# What the fixtures of the tests return: factories for a process, and for a client of an app in the test's own process.
StartService = Callable[..., Service]
MakeClient = Callable[..., Awaitable[httpx.AsyncClient]]
