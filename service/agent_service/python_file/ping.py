"""What `GET /ping` reports of a file, whatever is served of it."""

from http import HTTPStatus
from typing import Any

from agent_service.python_file.agent_file import AgentFile
from agent_service.python_file.callers import BROKEN
from agent_service.python_file.loading import FileError

_OUTDATED = "The agent's file has changed and cannot be loaded again; an earlier version answers, and its log has why."


def ping(agent: AgentFile[Any]) -> tuple[HTTPStatus, dict[str, str]]:
    """Return the status and the body."""
    try:
        agent.current()
    except FileError:
        return HTTPStatus.SERVICE_UNAVAILABLE, {"status": "Unhealthy", "error": BROKEN}
    if agent.error is not None:
        # It works, so no probe may restart it. Portside's own container reports `file` in `/health`.
        return HTTPStatus.OK, {"status": "Healthy", "file": "outdated", "error": _OUTDATED}
    return HTTPStatus.OK, {"status": "Healthy"}
