"""Requests that go on and on from inside the cluster, as a user of the agent would notice a gap."""

import json
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from support.eventually import eventually
from testbed import binaries
from testbed.cluster import Cluster
from testbed.errors import TestbedError

MOST_SECONDS = 600
BEGIN_SECONDS = 60
END_SECONDS = 30
FROM = ("-n", "model-api", "deployment/model-api")

# Asks on a new connection each time, as many clients would, and tells each answer in a line; ends with its input.
# What comes before the first good answer does not count: a proxy that has yet to hear of a new Service refuses.
_CLIENT = """
import json, sys, threading, time, urllib.error, urllib.request as r
url, key, most = sys.argv[1], sys.argv[2], float(sys.argv[3])
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
end, number, begun = time.monotonic() + most, 0, False
while not over.is_set() and time.monotonic() < end:
    number += 1
    body = json.dumps({"message": f"steady {number}"}).encode()
    headers = {"Content-Type": "application/json", **({"X-API-Key": key} if key else {})}
    try:
        with r.urlopen(r.Request(url, body, headers), timeout=20) as answer:
            status, said = answer.status, json.loads(answer.read())["response"]
    except urllib.error.HTTPError as error:
        status, said = error.code, error.read().decode()
    except Exception as error:
        status, said = 0, repr(error)
    begun = begun or status == 200
    if begun:
        print(json.dumps({"at": time.time(), "status": status, "said": said}), flush=True)
    time.sleep(0.05)
"""


@dataclass
class Traffic:
    """The answers so far, oldest first: when (`at`, in seconds since 1970), `status` (0: none came), and what was
    `said`."""

    answers: list[dict[str, Any]]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The answers that were not 200."""
        return [answer for answer in self.answers if answer["status"] != 200]

    def last(self) -> str:
        """What was said last; nothing before the first answer."""
        return str(self.answers[-1]["said"]) if self.answers else ""


@contextmanager
def steady_traffic(cluster: Cluster, url: str, key: str = "") -> Iterator[Traffic]:
    """Keep one request after the other going to `url` while the body runs; afterwards every answer is there.

    It begins with the first that is answered well.

    `url` is that of a Service, as pods know it; `key` is sent as the client key.
    """
    with lines_of(cluster, _CLIENT, f"{url}/chat", key, str(MOST_SECONDS)) as answers:
        eventually(lambda: bool(answers), f"{url} answers", BEGIN_SECONDS)
        yield Traffic(answers)


@contextmanager
def lines_of(
    cluster: Cluster, program: str, *arguments: str, end_seconds: float = END_SECONDS
) -> Iterator[list[dict[str, Any]]]:
    """Run a Python program in a pod while the body runs, and yield the JSON objects that it printed so far, one a line.

    It is to end when its input does, within `end_seconds`; afterwards everything that it printed is there. Raises
    TestbedError with the reason when it does not, or when it ended before the body did or with an error, as what it
    would have reported is then missing.
    """
    kubectl = str(binaries.provide("kubectl")["kubectl"])
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [kubectl, "exec", "-i", *FROM, "--", "python", "-c", program, *arguments],
            env=cluster.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        lines: list[dict[str, Any]] = []
        reader = threading.Thread(target=_read, args=(process, lines))
        reader.start()
        try:
            yield lines
            early = process.poll() is not None
        finally:
            fault = _end(process, reader, end_seconds)
        errors.seek(0)
        if early:
            fault = "ended before the test did"
        if fault:
            raise TestbedError(f"The program in the pod {fault}. It printed: {errors.read()[-2000:]}")


def _end(process: subprocess.Popen[str], reader: threading.Thread, seconds: float) -> str:
    """End the program, and return what is wrong with its end."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it ended by itself
        process.stdin.close()
    reader.join(seconds)
    if reader.is_alive():
        process.kill()
        process.wait()
        return f"still waited for an answer {seconds:g} s after its end"
    code = process.wait(END_SECONDS)
    return f"ended with code {code}" if code else ""


def _read(process: subprocess.Popen[str], lines: list[dict[str, Any]]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(json.loads(line))  # noqa: PERF401  what came so far is looked at meanwhile


@dataclass
class Repeated:
    """Something that is done over and over in a thread of its own, until it fails."""

    what: str
    fault: BaseException | None = None

    def check(self) -> None:
        """Raise, with the reason, if it is no longer done."""
        if self.fault is not None:
            raise AssertionError(f"{self.what} ended before the tests did: {self.fault!r}") from self.fault


@contextmanager
def again_and_again(what: str, do: Callable[[], object], pause: float) -> Iterator[Repeated]:
    """Do it while the body runs, with so many seconds between."""
    over = threading.Event()
    repeated = Repeated(what)

    def loop() -> None:
        try:
            while not over.is_set():
                do()
                over.wait(pause)
        except Exception as error:
            repeated.fault = error

    looping = threading.Thread(target=loop)
    looping.start()
    try:
        yield repeated
    finally:
        over.set()
        looping.join()
    repeated.check()
