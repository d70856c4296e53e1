"""The programs that are measured, each on a loopback port and configured with the address of the bench's model API."""

import json
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from agent_service.config.settings import Settings
from bench import processes
from bench.forms import ANTHROPIC, OWN, Form
from testbed.errors import TestbedError
from testbed.ports import free_port

_HERE = Path(__file__).parent
# -P keeps the script's folder out of sys.path: its `operator` would shadow the module of the standard library.
_PYTHON = (sys.executable, "-P")
_SERVE = (str(Path(sys.executable).with_name("agent-service")), "serve", "--host", "127.0.0.1")
PEER = "LiteLLM"

_START_SECONDS = 120.0
_STOP_SECONDS = 20.0

# Settings of production, with limits that count every request but reject none.
_CLIENT_KEY = "sk-" + secrets.token_hex(32)
_AUTHORIZED = {"Authorization": f"Bearer {_CLIENT_KEY}"}
_SETTINGS = {
    "ENVIRONMENT": "production",
    "ANTHROPIC_API_KEY": "sk-bench",
    "API_KEYS": _CLIENT_KEY,
    "RATE_LIMIT_REQUESTS": "1000000",
    "TOKENS_PER_MINUTE": "1000000000",
    "MAX_IN_FLIGHT": "4096",
    "SYSTEM_PROMPT": "Be brief.",
}


@dataclass
class Target:
    """A running program, and the protocol in which it is asked."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    form: Form
    headers: dict[str, str] = field(default_factory=dict)
    start_seconds: float = 0.0

    @property
    def chat_path(self) -> str:
        """The path for a chat."""
        return self.form.chat_path

    @property
    def stream_path(self) -> str:
        """The path for a streamed chat."""
        return self.form.stream_path

    def chat_body(self, message: str) -> bytes:
        """Return the body of a chat."""
        return json.dumps(self.form.chat(message)).encode()

    def stream_body(self, message: str) -> bytes:
        """Return the body of a streamed chat."""
        return json.dumps(self.form.stream(message)).encode()

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used, including its children."""
        return processes.cpu_seconds(self.process.pid)

    def resident_mb(self) -> float:
        """Return the memory that it uses now, including its children."""
        return processes.resident_mb(self.process.pid)

    def proportional_mb(self) -> float:
        """Return its share of the memory that it uses now, including its children."""
        return processes.proportional_mb(self.process.pid)

    def speaking(self, form: Form) -> "Target":
        """Return the same program, asked in another protocol."""
        return replace(self, name=form.name, form=form, headers={**self.headers, **form.headers})


@contextmanager
def model(folder: Path) -> Iterator[Target]:
    """Run the model API of the bench. It is also a target: the lower bound of all others."""
    with _running("model", [*_PYTHON, str(_HERE / "model.py")], folder, {}) as process:
        line = ""
        log = folder / "model.log"
        deadline = time.monotonic() + _START_SECONDS
        while not line.endswith("\n"):
            line = log.read_text(encoding="utf-8")
            _look(process, log, deadline)
        url = line.rsplit(" ", 1)[-1].strip()
        yield Target("stand-in alone", url, process, form=ANTHROPIC, headers={"x-api-key": "sk-bench"})


@contextmanager
def passthrough(folder: Path, model_url: str) -> Iterator[Target]:
    """Run `passthrough.py`, the limit in Python."""
    with _script("passthrough", folder, model_url, name="no SDK", form=OWN) as target:
        yield target


@contextmanager
def ours(
    folder: Path,
    model_url: str,
    redis_url: str,
    *,
    name: str = "agent-service",
    runtime_url: str | None = None,
    gateway_port: int | None = None,
    protocols: bool = False,
) -> Iterator[Target]:
    """Run the agent API as in production: client keys, limits, state in Redis, metrics and JSON logs.

    Args:
        folder: folder of its log.
        model_url: address of the model API.
        redis_url: address of the Redis.
        name: name of the target.
        runtime_url: address of a runtime that answers instead of the built-in agent.
        gateway_port: port of the gateway, if it has one.
        protocols: whether it answers in every protocol, also in those that are off by default.
    """
    port = free_port()
    settings = {**_SETTINGS, "ANTHROPIC_BASE_URL": model_url, "REDIS_URL": redis_url}
    if runtime_url is not None:
        settings["RUNTIME_URL"] = runtime_url
    if gateway_port is not None:
        settings["GATEWAY_PORT"] = str(gateway_port)
    if protocols:
        settings["API_MCP"] = "true"
    with _running(name, [*_SERVE, "--port", str(port)], folder, settings) as process:
        url = f"http://127.0.0.1:{port}"
        seconds = _until_answers(process, f"{url}/health/ready", folder / f"{name}.log")
        yield Target(name, url, process, form=OWN, headers=_AUTHORIZED, start_seconds=seconds)


def first_answer_seconds(folder: Path, settings: dict[str, str]) -> float:
    """Return the time from the start of the agent API with these settings until its first answer to a chat."""
    port = free_port()
    own = {"STATE_DIR": str(folder / "state"), "API_KEYS": _CLIENT_KEY}
    started = time.monotonic()
    with _running("first-answer", [*_SERVE, "--port", str(port)], folder, {**settings, **own}) as process:
        url, log = f"http://127.0.0.1:{port}", folder / "first-answer.log"
        _until_answers(process, f"{url}/health/ready", log)
        httpx.post(f"{url}{OWN.chat_path}", json=OWN.chat("hello"), headers=_AUTHORIZED, timeout=30).raise_for_status()
        return time.monotonic() - started


@contextmanager
def bare_gateway(folder: Path, model_url: str) -> Iterator[Target]:
    """Run the limit of the gateway in Python."""
    with _script("bare_gateway", folder, model_url, name="aiohttp alone") as target:
        yield target


@contextmanager
def gateway(folder: Path, model_url: str, redis_url: str) -> Iterator[Target]:
    """Run the gateway of an agent as in production, with a budget and a limit of tokens that stop no call."""
    port = free_port()
    with ours(folder, model_url, redis_url, name="gateway", gateway_port=port) as agent:
        yield replace(agent, url=f"http://127.0.0.1:{port}", form=ANTHROPIC, headers={})


@contextmanager
def instant_runtime(folder: Path) -> Iterator[Target]:
    """Run `instant_runtime.py`, which answers without a model."""
    with _script("instant_runtime", folder, "", name="instant runtime") as target:
        yield target


@contextmanager
def calling_runtime(folder: Path, model_url: str, *, name: str, port: int | None = None) -> Iterator[Target]:
    """Run `calling_runtime.py`, which calls the model for each turn."""
    with _script("calling_runtime", folder, model_url, name=name, port=port) as target:
        yield target


@contextmanager
def litellm(folder: Path, model_url: str, environment: Path) -> Iterator[Target]:
    """Run LiteLLM's proxy from the Python environment `environment`."""
    port = free_port()
    config = folder / "litellm.yaml"
    model_of = {"model": "anthropic/claude-sonnet-5-5", "api_base": model_url, "api_key": "sk-bench"}
    # JSON is YAML.
    listed = {"model_list": [{"model_name": "claude-sonnet-5-5", "litellm_params": model_of}]}
    config.write_text(json.dumps(listed), encoding="utf-8")
    command = [str(environment / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    settings = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": _CLIENT_KEY,
    }
    with _running("litellm", [*command, "--port", str(port), "--num_workers", "1"], folder, settings) as process:
        seconds = _until_answers(process, f"http://127.0.0.1:{port}/health/liveliness", folder / "litellm.log")
        yield Target(
            "LiteLLM", f"http://127.0.0.1:{port}", process, form=ANTHROPIC, headers=_AUTHORIZED, start_seconds=seconds
        )


@contextmanager
def _script(
    script: str, folder: Path, model_url: str, *, name: str, form: Form = ANTHROPIC, port: int | None = None
) -> Iterator[Target]:
    """Run a program of the bench that reads MODEL_URL and PORT."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {"MODEL_URL": model_url, "PORT": str(port), "PYTHONPATH": str(_HERE.parent)}
    log = name.replace(" ", "-")
    with _running(log, [*_PYTHON, str(_HERE / f"{script}.py")], folder, settings) as process:
        seconds = _until_answers(process, f"{url}/", folder / f"{log}.log")
        yield Target(name, url, process, form=form, start_seconds=seconds)


@contextmanager
def _running(
    name: str, command: list[str], folder: Path, settings: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    reserved = {setting.upper() for setting in Settings.model_fields} | {"PORT"}
    environment = {key: value for key, value in os.environ.items() if key.upper() not in reserved} | settings
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_answers(process: subprocess.Popen[bytes], url: str, log: Path) -> float:
    started = time.monotonic()
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  # a loopback address of ours
                break
        except urllib.error.HTTPError as error:
            if error.code != 503:
                break
        except OSError:
            pass
        _look(process, log, started + _START_SECONDS)
    return time.monotonic() - started


def _look(process: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    if process.poll() is not None or time.monotonic() > deadline:
        raise TestbedError(f"{log.stem} did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")
    time.sleep(0.02)
