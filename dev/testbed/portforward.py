"""`kubectl port-forward` as a context manager: how a developer reaches an agent."""

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from testbed import binaries
from testbed.cluster import Cluster
from testbed.errors import TestbedError

START_SECONDS = 30


@contextmanager
def forwarded(cluster: Cluster, namespace: str, target: str, port: int) -> Iterator[str]:
    """Forward a free local port to `port` of `target` (such as `svc/my-agent`); yield its URL.

    Raises TestbedError with kubectl's output when it does not start within START_SECONDS.
    """
    command = [str(binaries.provide("kubectl")["kubectl"]), "port-forward", "-n", namespace, target, f":{port}"]
    process = subprocess.Popen(
        command,
        env=cluster.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    guard = threading.Timer(START_SECONDS, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        guard.cancel()
        match = re.search(r"127\.0\.0\.1:(\d+)", first)
        if match is None:
            raise TestbedError(f"`kubectl port-forward {target}` did not start: {first}{process.stdout.read()}")
        threading.Thread(target=process.stdout.read, daemon=True).start()  # a full pipe would block kubectl
        yield f"http://127.0.0.1:{match[1]}"
    finally:
        guard.cancel()
        process.terminate()
        process.wait()
