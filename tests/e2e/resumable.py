"""Many resumable answers at once from inside the cluster, whose clients go on where a broken stream ended."""

from collections.abc import Iterator
from contextlib import contextmanager

from e2e.traffic import Lines, lines_of
from testbed.cluster import Cluster

MOST_SECONDS = 240
END_SECONDS = 60

# Asks once in each slot, and follows the answer on new connections until its last event. Prints one line at the first
# event of an answer, and one at its end.
_CLIENT = """
import http.client, json, sys, threading, time
host, places, message, most = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
end = time.monotonic() + most
threading.Thread(target=sys.stdin.read, daemon=True).start()
lock = threading.Lock()

def show(**line):
    with lock:
        print(json.dumps(line), flush=True)

def request(method, path, body=None, **headers):
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json", **headers})
    return connection, connection.getresponse()

def submitted(number):
    while time.monotonic() < end:
        try:
            key = {"Idempotency-Key": f"slot-{number}"}
            connection, answer = request("POST", "/chat", {"message": message, "background": True}, **key)
            accepted = json.loads(answer.read())
            connection.close()
            if answer.status == 202:
                return accepted
        except (OSError, http.client.HTTPException, ValueError):
            pass
        time.sleep(0.2)

def one(number):
    accepted = submitted(number)
    text, last, breaks, kinds = "", "", 0, []
    while accepted and time.monotonic() < end:
        try:
            connection, answer = request("GET", accepted["events_url"], **({"Last-Event-ID": last} if last else {}))
            if answer.status != 200:
                raise OSError(f"status {answer.status}")
            name = ""
            for line in answer:
                if line.startswith(b"id:"):
                    name = line[3:].strip().decode()
                elif line.startswith(b"data:"):
                    event = json.loads(line[5:])
                    kinds.append(event["type"])
                    if event["type"] == "text":
                        text += event["content"]
                    elif event["type"] == "restarted":
                        text = event["content"]
                    if not last:
                        show(began=number)
                    last = name
                    if event["type"] in ("done", "error"):
                        return show(number=number, text=text, end=event, breaks=breaks, kinds=sorted(set(kinds)))
            raise OSError("ended early")
        except (OSError, http.client.HTTPException) as error:
            breaks += 1
            time.sleep(0.2)
    show(number=number, text=text, end=None, breaks=breaks, kinds=sorted(set(kinds)))

threads = [threading.Thread(target=one, args=(number,)) for number in range(places)]
for thread in threads: thread.start()
for thread in threads: thread.join()
show(all=True)
time.sleep(max(0, min(30, end - time.monotonic())))
"""


@contextmanager
def resumable_answers(cluster: Cluster, host: str, count: int, message: str) -> Iterator[Lines]:
    """Ask for `count` background answers, and yield the lines on them: `{"began"}`, `{"number", "text", …}`, `{"all"}`.

    `host` is the host name of a Service as pods resolve it; `message` is sent by each client.
    """
    with lines_of(cluster, _CLIENT, host, str(count), message, str(MOST_SECONDS), end_seconds=END_SECONDS) as lines:
        yield lines
