"""An API server that knows the pods of one agent and does nothing but pass requests on to them.

A real one refuses to pass requests on to loopback addresses, where the agents of these tests listen. Like a real one,
it removes the header Authorization (kube-apiserver, "authentication").
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from support.http_server import QuietHandler, serving_http

_PODS = re.compile(r"/api/v1/namespaces/([^/]+)/pods")
_PROXY = re.compile(r"/api/v1/namespaces/prod/pods/([^/:]+):8000/proxy(/.*)")
_SELECTOR = {"app.kubernetes.io/name=portside-agent", "app.kubernetes.io/instance=hello"}


@contextmanager
def running_pod_proxy(
    folder: Path, pods: Mapping[str, str], *, objects: Mapping[str, Any] | None = None
) -> Iterator[Path]:
    """Yield a kubeconfig for the namespace `prod`, in which an agent `hello` has these ready pods.

    `pods` maps their names to the addresses of their agent APIs, such as http://127.0.0.1:8000. `objects` has further
    objects and lists by their paths.
    """

    class Handler(QuietHandler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body: bytes) -> None:
            parts = urlsplit(self.path)
            found = _PROXY.fullmatch(parts.path)
            if parts.path in (objects or {}):
                self.send(200, json.dumps((objects or {})[parts.path]).encode())
            elif found is not None:
                self._pass_on(f"{pods[found[1]]}{found[2]}?{parts.query}", body)
            elif (listed := _PODS.fullmatch(parts.path)) is not None:
                selector = set(parse_qs(parts.query)["labelSelector"][0].split(","))
                items = list(map(_pod, pods)) if listed[1] == "prod" and selector >= _SELECTOR else []
                self.send(200, json.dumps({"kind": "PodList", "metadata": {}, "items": items}).encode())
            else:
                self.send(404, json.dumps({"kind": "Status", "message": "not found", "code": 404}).encode())

        def _pass_on(self, url: str, body: bytes) -> None:
            dropped = {"authorization", "host", "content-length"}
            headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
            answer = httpx.request(self.command, url, content=body, headers=headers, timeout=60)
            self.send(answer.status_code, answer.content)

    with serving_http(Handler) as port:
        yield _kubeconfig(folder, port)


def _pod(name: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "prod"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def _kubeconfig(folder: Path, port: int) -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "prod"}}],
        "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "test", "user": {"token": "token-of-the-cluster"}}],
    }
    file = folder / "kubeconfig.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file
