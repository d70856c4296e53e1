"""Continuous requests from inside the cluster, which notice a gap as a user of the agent would."""

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

# Sends each request on a new connection, as many clients would, and prints each answer in a line; ends with its input.
# Failures before the first good answer do not count: a proxy that does not have a new Service yet refuses connections.
_CLIENT = """
import json, sys, threading, time, urllib.error, urllib.request as r
url, key, most = sys.argv[1], sys.argv[2], float(sys.argv[3])
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
end, number, started = time.monotonic() + most, 0, False
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
    started = started or status == 200
    if started:
        print(json.dumps({"at": time.time(), "status": status, "said": said}), flush=True)
    time.sleep(0.05)
"""


@dataclass
class Traffic:
    """The answers so far, oldest first: when (`at`, in seconds since 1970), `status` (0: no answer), and the text
    (`said`)."""

    answers: list[dict[str, Any]]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Return the answers that were not 200."""
        return [answer for answer in self.answers if answer["status"] != 200]

    def last(self) -> str:
        """Return the text of the last answer; empty before the first."""
        return str(self.answers[-1]["said"]) if self.answers else ""


@contextmanager
def steady_traffic(cluster: Cluster, url: str, key: str = "") -> Iterator[Traffic]:
    """Send one request after another to `url` while the context is active; afterwards all answers are available.

    It starts with the first successful answer.

    `url` is that of a Service as pods resolve it; `key` is sent as the client key.
    """
    with lines_of(cluster, _CLIENT, f"{url}/chat", key, str(MOST_SECONDS)) as answers:
        eventually(lambda: bool(answers), f"{url} answers", BEGIN_SECONDS)
        yield Traffic(answers)


class Lines(list[dict[str, Any]]):
    """The JSON objects that a program has printed so far, one a line; `ended` is set at the end of its output."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = threading.Event()


@contextmanager
def lines_of(cluster: Cluster, program: str, *arguments: str, end_seconds: float = END_SECONDS) -> Iterator[Lines]:
    """Run a Python program in a pod while the context is active, and yield the lines that it prints.

    It must end within `end_seconds` after its input ends; afterwards its complete output is available. Raises
    TestbedError with the reason if it does not, or if it ended earlier or with an error, as its report is then
    incomplete.
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
        lines = Lines()
        reader = threading.Thread(target=_read, args=(process, lines))
        reader.start()
        try:
            yield lines
            early = lines.ended.is_set()
        finally:
            fault = _end(process, reader, end_seconds)
        errors.seek(0)
        if early:
            fault = "ended before the test did"
        if fault:
            raise TestbedError(f"The program in the pod {fault}. It printed: {errors.read()[-2000:]}")


def _end(process: subprocess.Popen[str], reader: threading.Thread, seconds: float) -> str:
    """End the program, and return the problem with its end, if any."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has already ended
        process.stdin.close()
    reader.join(seconds)
    if reader.is_alive():
        process.kill()
        process.wait()
        return f"still waited for an answer {seconds:g} s after its end"
    code = process.wait(END_SECONDS)
    return f"ended with code {code}" if code else ""


def _read(process: subprocess.Popen[str], lines: Lines) -> None:
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.append(json.loads(line))
    finally:
        lines.ended.set()


@dataclass
class Repeated:
    """A call that is repeated in its own thread until it fails."""

    what: str
    fault: BaseException | None = None

    def check(self) -> None:
        """Raise with the reason if it has stopped."""
        if self.fault is not None:
            raise AssertionError(f"{self.what} ended before the tests did: {self.fault!r}") from self.fault


@contextmanager
def again_and_again(what: str, do: Callable[[], object], pause: float) -> Iterator[Repeated]:
    """Call `do` while the context is active, with a pause of so many seconds in between."""
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
