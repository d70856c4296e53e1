"""One question to an agent: its answer as it arrives, or a sentence that explains why there is none."""

import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from agent_service.client.connection import CONNECT_SECONDS, UnreachableError, parsed, send, values
from agent_service.client.protocols import PROTOCOLS, BrokenOffError, Protocol, RefusedError, reason
from agent_service.config.settings import CLIENT_KEYS_NAME

_STREAM = "text/event-stream"


class AskError(Exception):
    """There is no answer, or only the part of it so far. The message explains why, and what to check."""


def ask(
    url: str,
    message: str,
    *,
    key: str | None,
    seconds: float,
    api: str = "native",
    connect_seconds: float = CONNECT_SECONDS,
) -> Iterator[str]:
    """Yield the answer of the agent at `url` to `message`, in a new conversation, piece by piece.

    `key` is the client key to send, if the agent needs one. `seconds` is how long each step may take. `api` is one of
    `PROTOCOLS`. While no connection can be made, retry for `connect_seconds`. A question that was sent is never
    repeated.

    Raises:
        AskError: if no server answers, or the response contains no answer, or the answer breaks off.
    """
    protocol = PROTOCOLS[api]
    streamed = False
    try:
        with send(_request(url, message, key, protocol), seconds, connect_seconds) as response:
            streamed = response.headers.get_content_type() == _STREAM
            yield from protocol.pieces(values(response))
    except urllib.error.HTTPError as error:
        raise AskError(f"{url} answered {error.code}: {_reason(error, api, protocol)}") from None
    except RefusedError as error:
        raise AskError(f"{url} did not answer to the end: {error}") from None
    except BrokenOffError:
        raise AskError(_broken_off(url, streamed=streamed)) from None
    except (OSError, HTTPException, UnreachableError) as error:
        if streamed:
            raise AskError(_broken_off(url, streamed=True)) from None
        cause = getattr(error, "reason", error)
        raise AskError(f"{url} did not answer: {cause}. Is the agent ready, and may this pod reach it?") from None
    except ValueError as error:
        raise AskError(f"{url} is not a valid address: {error}. Use one such as http://localhost:8000.") from None


def _request(url: str, message: str, key: str | None, protocol: Protocol) -> urllib.request.Request:
    headers = {"Content-Type": "application/json", "Accept": f"application/json, {_STREAM}", **protocol.headers}
    headers |= {"Authorization": f"Bearer {key}"} if key else {}
    body = json.dumps(protocol.body(message)).encode()
    return urllib.request.Request(f"{url.rstrip('/')}{protocol.path}", body, headers)  # noqa: S310  as asked for


def _reason(error: urllib.error.HTTPError, api: str, protocol: Protocol) -> str:
    try:
        sentence = reason(parsed(error.read()))
    except (OSError, HTTPException):
        sentence = reason(None)
    if error.code != HTTPStatus.NOT_FOUND or protocol.setting is None:
        return sentence
    return f"{sentence}. Is the protocol enabled ({protocol.setting}; in a cluster, the field api.{api})?"


def _broken_off(url: str, *, streamed: bool) -> str:
    if streamed:
        return f"{url} began to answer, but the answer broke off. The log of the agent has the reason."
    return f"{url} answered, but not like an agent. Is it the agent's Service?"


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
    # A name before the key ends in a colon.
    return next((part for part in re.split(r"[,\s]+", given) if part and not part.endswith(":")), None)
