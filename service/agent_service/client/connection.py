"""One request to an agent, and the JSON values of its answer as they arrive."""

import errno
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

# kube-proxy and the cluster's DNS learn of a new Service within a few seconds, later on a busy node.
CONNECT_SECONDS = 15.0
# A packet to a Service that the node does not know yet may be dropped. A new attempt uses the rules of that moment.
_ATTEMPT_SECONDS = 3.0
_PAUSE_SECONDS = 0.5
_UNREACHABLE = {errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH}


class UnreachableError(Exception):
    """No connection was made, so the agent has not received the question. The message is the reason."""


def send(request: urllib.request.Request, seconds: float, connect_seconds: float) -> HTTPResponse:
    """Send a request and return the response, whose body is not read yet.

    `seconds` is how long each step may take. While no connection is accepted, retry for `connect_seconds`. A request
    that was sent is never repeated.

    Raises:
        UnreachableError: if no connection was accepted.
        HTTPError, OSError, HTTPException: as urllib does.
    """
    deadline = monotonic() + connect_seconds
    while True:
        try:
            _connect(request.full_url, min(seconds, _ATTEMPT_SECONDS))
            return _send_once(request, seconds)
        except UnreachableError:
            if monotonic() + _PAUSE_SECONDS > deadline:
                raise
        sleep(_PAUSE_SECONDS)


def values(response: HTTPResponse) -> Iterator[Any]:
    """Yield the data of each server-sent event, or the one body: as JSON, or as text if it is none."""
    if response.headers.get_content_type() != "text/event-stream":
        yield parsed(response.read())
        return
    data: list[bytes] = []
    for line in response:
        field, _, value = line.rstrip(b"\r\n").partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif not field and not value and data:
            yield parsed(b"\n".join(data))
            data = []


def parsed(body: bytes) -> Any:
    """Return a body as JSON, or as text if it is none."""
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _connect(url: str, seconds: float) -> None:
    """Raise UnreachableError unless the server accepts a connection within `seconds`."""
    parts = urlsplit(url)
    if parts.hostname is None:
        return  # urllib reports the error in the address
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=seconds).close()
    except OSError as error:
        raise UnreachableError(error) from None


def _send_once(request: urllib.request.Request, seconds: float) -> HTTPResponse:
    # Bypasses any proxy that is set for the model API.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        response: HTTPResponse = direct.open(request, timeout=seconds)
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        # urllib wraps an error that occurs before the request is sent, but not a timeout of the answer.
        if isinstance(error.reason, OSError) and error.reason.errno in _UNREACHABLE:
            raise UnreachableError(error.reason) from None
        raise
    return response
