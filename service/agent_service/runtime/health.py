"""The check of a runtime by its health endpoint."""

from agent_service.agent.errors import ModelFailedError
from agent_service.runtime import answers, errors
from agent_service.runtime.connection import Connection

_LARGEST_BYTES = 2**16

_BUSY = "healthybusy"
# The field `file` of a Python file that Portside runs (python_file/app.py).
_OUTDATED = "outdated"


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
        return _sentence(await reply.read(_LARGEST_BYTES))
    finally:
        reply.close()


def _sentence(body: bytes) -> str:
    """Return the sentence for a body of `/ping`: AgentCore's `status`, and whether the newest Python file answers."""
    try:
        value = answers.loads(body)
    except ValueError:
        value = None
    status, file = (value.get("status"), value.get("file")) if isinstance(value, dict) else (None, None)
    if file == _OUTDATED:
        return "The agent's runtime answers, with an outdated version of its file: the new one cannot be loaded."
    if isinstance(status, str) and status.lower() == _BUSY:
        return "The agent's runtime answers, and is busy."
    return "The agent's runtime answers."
