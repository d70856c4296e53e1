"""One question to the API of an agent, as a client asks it."""

import json
import os
import re
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from agent_service.settings import CLIENT_KEYS_NAME


class AskError(Exception):
    """No answer came; the text says why, and what to look at."""


def ask(url: str, message: str, *, key: str | None, seconds: float) -> str:
    """Give what the agent at `url` answers to `message`, in a conversation of its own.

    `key` is the client key to show, if the agent wants one; `seconds` is how long each step may take.

    Raises:
        AskError: if nothing answers there, or what answers has no answer to give.
    """
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    body = json.dumps({"message": message}).encode()
    # Past any proxy that is set for the model API.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(urllib.request.Request(f"{url.rstrip('/')}/chat", body, headers), timeout=seconds) as answer:  # noqa: S310
            said = _json(answer.read())
    except urllib.error.HTTPError as error:
        raise AskError(f"{url} answered {error.code}: {_detail(_json(error.read()))}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise AskError(f"{url} did not answer: {reason}. Is the agent ready, and may this pod reach it?") from None
    except ValueError as error:
        raise AskError(f"{url} is no address to ask at: {error}. Give one such as http://localhost:8000.") from None
    response = said.get("response") if isinstance(said, dict) else None
    if not isinstance(response, str):
        raise AskError(f"{url} answered, but not as an agent does. Is it the agent's Service?")
    return response


def client_key() -> str | None:
    """Give the first client key of API_KEYS, or of the file of that name in SECRETS_DIR; None if there is none."""
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
