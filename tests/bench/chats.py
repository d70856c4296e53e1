"""Chats in a closed loop over several connections, complete or streamed, by wrk."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.targets import Target
from testbed import system
from testbed.errors import TestbedError

_SCRIPT = Path(__file__).with_name("chat.lua")
_WARM_UP_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Chats:
    """The measured rates and latencies. Times are in milliseconds."""

    answered: int
    per_second: float
    p50: float
    p99: float
    cpu_each: float
    failed: int


def measure(
    target: Target, *, connections: int, seconds: int, message: str = "Hello, how are you?", streamed: bool = False
) -> Chats:
    """Put load on the target, after a short warm-up."""
    _wrk(target, connections, _WARM_UP_SECONDS, message, streamed)
    cpu = target.cpu_seconds()
    answered, microseconds, refused, p50, p99, broken = _wrk(target, connections, seconds, message, streamed)
    cpu = target.cpu_seconds() - cpu
    return Chats(
        answered=int(answered),
        per_second=answered / microseconds * 1e6,
        p50=p50 / 1000,
        p99=p99 / 1000,
        cpu_each=cpu * 1000 / max(1, answered),
        failed=int(refused + broken),
    )


def _wrk(target: Target, connections: int, seconds: int, message: str, streamed: bool) -> list[float]:
    system.need("wrk")
    path = target.stream_path if streamed else target.chat_path
    body = target.stream_body(message) if streamed else target.chat_body(message)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(_SCRIPT)]
    headers = "\n".join(f"{name}: {value}" for name, value in target.headers.items())
    environment = os.environ | {"BENCH_BODY": body.decode(), "BENCH_HEADERS": headers}
    done = subprocess.run([*command, target.url + path], env=environment, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("BENCH "):
            return [float(word) for word in line.split()[1:]]
    raise TestbedError(f"wrk failed against {target.name}:\n{done.stdout}{done.stderr}")
