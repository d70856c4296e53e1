"""The check of a runtime by its health endpoint."""

from agent_service.agent.errors import ModelFailedError
from agent_service.runtime import answers, errors
from agent_service.runtime.connection import Connection

_LARGEST_BYTES = 2**16

_BUSY = "healthybusy"


async def check_path(connection: Connection, path: str) -> str:
    """Return a sentence on the state of the runtime, as `path` reports it: any 2xx means that it works.

    Raises:
        ModelError: there is no connection, or the status is another.
    """
    try:
        reply = await connection.send("GET", path)
    except ModelFailedError as error:
        if error.kind == errors.NO_ENDPOINT:
            raise errors.no_health_path(path, upstream=error.upstream) from error
        raise
    try:
        busy = _is_busy(await reply.read(_LARGEST_BYTES))
    finally:
        reply.close()
    return "The agent's runtime answers, and is busy." if busy else "The agent's runtime answers."


def _is_busy(body: bytes) -> bool:
    """Return whether a body is that of AgentCore's `/ping` while background work is in progress."""
    try:
        value = answers.loads(body)
    except ValueError:
        return False
    status = value.get("status") if isinstance(value, dict) else None
    return isinstance(status, str) and status.lower() == _BUSY
