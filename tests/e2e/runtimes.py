"""Runtimes for the e2e tests, most of them with a fault, and how the tests apply them."""

import json
from typing import Any

from testbed import images
from testbed.cluster import Cluster

# The default of the field, with a user: the image of a single program names none.
AS_A_USER = {
    "runAsNonRoot": True,
    "runAsUser": 10002,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
# Fewer seconds than a user would set, so that the kubelet soon gives up.
STARTUP_SECONDS = 5

_SERVER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status})
        self.send_header("Content-Length", "0")
        self.end_headers()
http.server.ThreadingHTTPServer(("{host}", {port}), Handler).serve_forever()
"""
_NOT_HTTP = """
import socket
server = socket.create_server(("0.0.0.0", 8080))
while True:
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"SSH-2.0-harbor\\r\\n")
        connection.recv(1000)
"""


def server(*, status: int = 200, host: str = "0.0.0.0", port: int = 8080) -> str:  # noqa: S104  it is for a pod
    """Return a program that answers every GET with this status, and any other method with 501."""
    return _SERVER.format(status=status, host=host, port=port)


def python(program: str, **changes: Any) -> dict[str, Any]:
    """Return a runtime that runs the text of a Python program in an image that the nodes have."""
    image = {"image": images.reference("service"), "imagePullPolicy": "IfNotPresent"}
    return image | {"command": ["python", "-c", program], "startupSeconds": STARTUP_SECONDS} | changes


NOT_HTTP = python(_NOT_HTTP)

# What the file of a ConfigMap answers: the model's text, or what it finds in its environment and in its files.
FILE = """
import asyncio, json, os, pathlib, re, stat

# In two parts, so that the search does not find this file. A token of an API server begins with its algorithm and the
# id of its key; packages have examples of tokens without one.
KEY, TOKEN = b"key-of-" + b"the-tests", re.compile(b"eyJ" + b"hbGciOiJ[ER]UzI1NiIsImtpZCI6")
MOST_BYTES = 2_000_000


def texts():
    for name, value in os.environ.items():
        yield f"variable {name}", value.encode()
    for folder, folders, names in os.walk("/", onerror=None):
        folders[:] = [each for each in folders if os.path.join(folder, each) not in ("/proc", "/sys", "/dev")]
        yield from files(pathlib.Path(folder, name) for name in names)
    yield from files(pathlib.Path("/proc").glob("[0-9]*/environ"))


def files(paths):
    for path in paths:
        try:
            if stat.S_ISREG(path.stat().st_mode):
                with path.open("rb") as content:
                    yield str(path), content.read(MOST_BYTES)
        except OSError:
            pass


def search(word):
    found, searched = {"key": [], "token": [], "word": []}, 0
    for where, text in texts():
        searched += 1
        for name, wanted in (("key", KEY), ("word", word.encode())):
            if wanted in text:
                found[name].append(where)
        if TOKEN.search(text):
            found["token"].append(where)
    mounts = pathlib.Path("/proc/mounts").read_text()
    secrets = [line for line in mounts.splitlines() if "serviceaccount" in line or "/secrets" in line]
    return json.dumps({**found, "searched": searched, "mounts": secrets})


async def answer(turn):
    turn.log.info("Asked")
    if turn.message.startswith("search "):
        yield await asyncio.to_thread(search, turn.message.removeprefix("search "))
        return
    messages = turn.messages()
    async with turn.anthropic.messages.stream(model=turn.model, max_tokens=500, messages=messages) as events:
        async for text in events.text_stream:
            yield text
"""


def put_file(cluster: Cluster, namespace: str, source: str = FILE) -> dict[str, Any]:
    """Create or change the ConfigMap with the file, and return the runtime that runs it."""
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code"}, "data": {"agent.py": source}}
    cluster.kubectl("apply", "-n", namespace, "-f-", stdin=json.dumps(config_map))
    return {"code": {"configMapKeyRef": {"name": "code", "key": "agent.py"}}}
