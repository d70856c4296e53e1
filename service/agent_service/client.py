"""A client that sends one question to the API of an agent."""

import errno
import json
import os
import re
import socket
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

from agent_service.config.settings import CLIENT_KEYS_NAME

# kube-proxy and the cluster's DNS learn of a new Service within a few seconds, later on a busy node.
CONNECT_SECONDS = 15.0
# A packet to a Service that the node does not know yet may be dropped. A new attempt uses the rules of that moment.
_ATTEMPT_SECONDS = 3.0
_PAUSE_SECONDS = 0.5
_UNREACHABLE = {errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH}


class AskError(Exception):
    """No answer was received. The message explains why, and what to check."""


class _UnreachableError(Exception):
    """No connection was made, so the agent has not received the question. The message is the reason."""


def ask(url: str, message: str, *, key: str | None, seconds: float, connect_seconds: float = CONNECT_SECONDS) -> str:
    """Return the answer of the agent at `url` to `message`, in a new conversation.

    `key` is the client key to send, if the agent needs one. `seconds` is how long each step may take. While no
    connection can be made, retry for `connect_seconds`. A question that was sent is never repeated.

    Raises:
        AskError: if no server answers, or the response contains no answer.
    """
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    body = json.dumps({"message": message}).encode()
    try:
        request = urllib.request.Request(f"{url.rstrip('/')}/chat", body, headers)  # noqa: S310
        answer = _json(_send(request, seconds, monotonic() + connect_seconds))
    except urllib.error.HTTPError as error:
        raise AskError(f"{url} answered {error.code}: {_detail(_json(error.read()))}") from None
    except (OSError, HTTPException, _UnreachableError) as error:
        reason = getattr(error, "reason", error)
        raise AskError(f"{url} did not answer: {reason}. Is the agent ready, and may this pod reach it?") from None
    except ValueError as error:
        raise AskError(f"{url} is not a valid address: {error}. Use one such as http://localhost:8000.") from None
    response = answer.get("response") if isinstance(answer, dict) else None
    if not isinstance(response, str):
        raise AskError(f"{url} answered, but not like an agent. Is it the agent's Service?")
    return response


def _send(request: urllib.request.Request, seconds: float, deadline: float) -> bytes:
    """Return the body of the answer. While no connection is accepted, retry until `deadline` (of time.monotonic())."""
    while True:
        try:
            _connect(request.full_url, min(seconds, _ATTEMPT_SECONDS))
            return _send_once(request, seconds)
        except _UnreachableError:
            if monotonic() + _PAUSE_SECONDS > deadline:
                raise
        sleep(_PAUSE_SECONDS)


def _connect(url: str, seconds: float) -> None:
    """Raise _UnreachableError unless the server accepts a connection within `seconds`."""
    parts = urlsplit(url)
    if parts.hostname is None:
        return  # urllib reports the error in the address
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=seconds).close()
    except OSError as error:
        raise _UnreachableError(error) from None


def _send_once(request: urllib.request.Request, seconds: float) -> bytes:
    # Bypasses any proxy that is set for the model API.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=seconds) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        # urllib wraps an error that occurs before the request is sent, but not a timeout of the answer.
        if isinstance(error.reason, OSError) and error.reason.errno in _UNREACHABLE:
            raise _UnreachableError(error.reason) from None
        raise


def client_key() -> str | None:
    """Return the first client key of API_KEYS, or of the file of that name in SECRETS_DIR; None if there is none."""
    given = os.environ.get(CLIENT_KEYS_NAME, "")
    folder = os.environ.get("SECRETS_DIR")
    if not given and folder:
        try:
            given = (Path(folder) / CLIENT_KEYS_NAME).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise AskError(f"{CLIENT_KEYS_NAME} in {folder} cannot be read: {type(error).__name__}") from None
    return next((part for part in re.split(r"[,\s]+", given) if part), None)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _detail(answer: Any) -> str:
    detail = answer.get("detail") if isinstance(answer, dict) else None
    return detail if isinstance(detail, str) else "no reason given"
