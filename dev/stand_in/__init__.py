"""Run the stand-in model API for a test, as a separate process."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

SERVER = Path(__file__).with_name("server.py")

_STOP_SECONDS = 10.0


class StandIn:
    """A client of a running stand-in. `url` is the value for ANTHROPIC_BASE_URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=30)

    def close(self) -> None:
        """Close the connection to the stand-in."""
        self._client.close()

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests for messages so far, newest last; `server.py` describes the fields."""
        return self._seen("/v1/messages")

    def checks(self) -> list[dict[str, Any]]:
        """Return the requests to count tokens so far, which the service makes on its own as health checks."""
        return self._seen("/v1/messages/count_tokens")

    def chats(self) -> list[dict[str, Any]]:
        """Return the requests for chat completions so far, newest last."""
        return self._seen("/v1/chat/completions")

    def _seen(self, path: str) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = self._client.get("/stand-in/requests").raise_for_status().json()
        return [request for request in seen if request["path"] == path]

    def last(self) -> dict[str, Any]:
        """Return the newest request for a message."""
        return self.requests()[-1]

    def behave(self, **behaviour: Any) -> None:
        """Answer all requests like this from now on (`server.Behaviour`); without arguments, as usual."""
        _check(behaviour)
        self._client.put("/stand-in/behaviour", json=behaviour).raise_for_status()

    def release(self, name: str) -> None:
        """Release the answers that `hold=name` holds."""
        self._client.put(f"/stand-in/released/{name}").raise_for_status()

    def reset(self) -> None:
        """Forget all requests, behaviour and releases."""
        self.behave()
        self._client.delete("/stand-in/requests").raise_for_status()


def asking(message: str = "", **behaviour: Any) -> str:
    """Return a message with the behaviour that the stand-in shows in its answer (`server.Behaviour`)."""
    _check(behaviour)
    return f"{message} {json.dumps(behaviour, separators=(',', ':'))}".lstrip() if behaviour else message


def _check(behaviour: dict[str, Any]) -> None:
    """Raise TypeError for an argument that the server does not have, which it would ignore."""
    # Not at the top: the test bed imports this package for the path of the server, without the server's libraries.
    from stand_in.server import Behaviour  # noqa: PLC0415

    Behaviour(**behaviour)


@contextmanager
def running_stand_in(port: int = 0) -> Iterator[StandIn]:
    """Start a stand-in on a loopback port (0: any free port), and stop it at the end."""
    process = subprocess.Popen([sys.executable, str(SERVER), "--port", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None:
            raise RuntimeError("The stand-in has no standard output.")
        line = process.stdout.readline()
        if " on http" not in line:
            raise RuntimeError(f"The stand-in did not start; exit code {process.wait(_STOP_SECONDS)}.")
        stand_in = StandIn(line.rsplit(" ", 1)[-1].strip())
        try:
            yield stand_in
        finally:
            stand_in.close()
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_SECONDS)
        if process.stdout is not None:
            process.stdout.close()
