"""Many streams at once from inside the cluster, one after another in each slot, like the users of a busy agent."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from e2e.traffic import lines_of
from support.eventually import eventually
from testbed.cluster import Cluster

MOST_SECONDS = 400
BEGIN_SECONDS = 60
# Longer than the client waits for a silent stream, which it then reports.
END_SECONDS = 90

# Opens a stream in each slot, prints one line on how it ended, and opens the next; after the end of its input, no more.
# Each uses its own connection, and starts are spread over half a minute so that the streams do not all end at once.
# It starts when the Service can be reached: a proxy that does not have a new Service yet refuses connections.
_CLIENT = """
import http.client, json, socket, sys, threading, time
host, places, message, most = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
over, end = threading.Event(), time.monotonic() + most
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
lock = threading.Lock()

def one():
    outcome = {"status": 0, "done": False, "text": "", "error": None, "began": time.time()}
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        body = json.dumps({"message": message})
        connection.request("POST", "/chat/stream", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        outcome["status"] = answer.status
        if answer.status != 200:
            outcome["error"] = answer.read(1000).decode(errors="replace")
        for line in answer:
            if line.startswith(b"data:"):
                event = json.loads(line[5:])
                outcome["text"] += event.get("content", "")
                outcome["done"] = outcome["done"] or event["type"] == "done"
                if event["type"] == "error":
                    outcome["error"] = event["message"]
    except Exception as error:
        outcome["error"] = repr(error)
    finally:
        connection.close()
    outcome["text"] = outcome["text"][:200]
    outcome["ended"] = time.time()
    with lock:
        print(json.dumps(outcome), flush=True)

def place(number):
    time.sleep(number * 30 / places)
    while not over.is_set() and time.monotonic() < end:
        one()

def known():
    try:
        socket.create_connection((host, 80), timeout=5).close()
    except OSError:
        return False
    return True

while not known() and not over.is_set() and time.monotonic() < end:
    time.sleep(0.1)
threads = [threading.Thread(target=place, args=(number,)) for number in range(places)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@dataclass
class Streams:
    """The streams that have ended, in that order: `status` (0: no answer), `done` (whole), `text` (its beginning),
    `error` (its event, or the body of a refusal), and when it `began` and `ended` (seconds since 1970)."""

    ended: list[dict[str, Any]]

    @property
    def broken(self) -> list[dict[str, Any]]:
        """Return the streams that were refused, cut, or ended with an error."""
        return [each for each in self.ended if each["status"] != 200 or not each["done"] or each["error"]]


@contextmanager
def open_streams(cluster: Cluster, host: str, places: int, message: str) -> Iterator[Streams]:
    """Keep a stream open in each of `places` slots while the context is active; afterwards all of them have ended.

    `host` is the host name of a Service as pods resolve it; `message` is sent by each.
    """
    with lines_of(cluster, _CLIENT, host, str(places), message, str(MOST_SECONDS), end_seconds=END_SECONDS) as ended:
        eventually(lambda: bool(ended), f"streams of {host} end well", BEGIN_SECONDS)
        yield Streams(ended)
