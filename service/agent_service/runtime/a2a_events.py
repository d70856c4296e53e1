"""What an A2A agent sends, read into one form for versions 1.0 and 0.3 and for both bindings.

An event of 1.0 has one of the fields `task`, `message`, `statusUpdate` and `artifactUpdate`; one of 0.3 has `kind`.
Over HTTP+JSON, 0.3 has the fields of 1.0, except that a message has `content` in place of `parts`.
Unknown fields and events are ignored, as the specification asks for; fields of another type are taken as absent.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# The states of a task that has ended, or that waits for the user.
COMPLETED = "completed"
INPUT_REQUIRED = "input_required"
FAILED = "failed"
REJECTED = "rejected"
CANCELED = "canceled"
AUTH_REQUIRED = "auth_required"
SETTLED = frozenset({COMPLETED, INPUT_REQUIRED, FAILED, REJECTED, CANCELED, AUTH_REQUIRED})

_KINDS = {
    "task": "task",
    "message": "message",
    "statusUpdate": "status-update",
    "artifactUpdate": "artifact-update",
}
# ADK marks the model's thoughts, which are parts of an answer like its text.
_THOUGHT = "adk_thought"


@dataclass(frozen=True, slots=True)
class Artifact:
    """The text of an artifact, or of a chunk of it. `append`: it is added to what is there, and replaces it if not."""

    id: str
    text: str
    append: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """An event: the state of the task, and the text in it. Absent fields are None or empty.

    `message` is the text of a message that is the answer itself, `status_message` that of a status.
    `final` marks the last event of a stream in 0.3, and is None in 1.0. `last_message` is the agent's last message in
    the history of a task.
    """

    task_id: str | None = None
    state: str | None = None
    status_message: str = ""
    message: str | None = None
    artifacts: tuple[Artifact, ...] = ()
    final: bool | None = None
    last_message: str = ""


def event(value: dict[str, Any]) -> Event:
    """Return the event in an object: of a stream, or the result of a call. An unknown one is returned empty."""
    kind, body = _kind(value)
    if kind == "message":
        return Event(_text(body.get("taskId")), message=_message(body))
    if kind == "task":
        artifacts = tuple(_artifact(entry) for entry in _objects(body.get("artifacts")))
        state, text = _status(body.get("status"))
        return Event(_text(body.get("id")), state, text, artifacts=artifacts, last_message=_last_message(body))
    if kind == "status-update":
        state, text = _status(body.get("status"))
        final = body.get("final")
        return Event(_text(body.get("taskId")), state, text, final=final if isinstance(final, bool) else None)
    if kind == "artifact-update":
        artifact = body.get("artifact")
        found = _artifact(artifact, append=body.get("append") is True) if isinstance(artifact, dict) else None
        return Event(_text(body.get("taskId")), artifacts=() if found is None else (found,))
    return Event()


def task(value: dict[str, Any]) -> Event:
    """Return the event in the result of GetTask, which is the task itself."""
    kind, _ = _kind(value)
    return event(value if kind else {"task": value})


def _kind(value: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    kind = value.get("kind")
    if isinstance(kind, str):
        return kind, value
    for name, known in _KINDS.items():
        body = value.get(name)
        if isinstance(body, dict):
            return known, body
    return None, {}


def _status(value: object) -> tuple[str | None, str]:
    """Return the state, in lower case with underscores and without 1.0's prefix, and the text of its message."""
    if not isinstance(value, dict):
        return None, ""
    message = value.get("message")
    text = _message(message) if isinstance(message, dict) else ""
    state = value.get("state")
    if not isinstance(state, str):
        return None, text
    name = state.lower().replace("-", "_").removeprefix("task_state_")
    return CANCELED if name == "cancelled" else name, text


def _message(value: dict[str, Any]) -> str:
    """Return the text parts, a line each, as the SDK's `get_message_text` does."""
    return "\n".join(_parts(value.get("parts", value.get("content"))))


def _artifact(value: dict[str, Any], *, append: bool = False) -> Artifact:
    # The parts of an artifact are its chunks once it has been streamed, so nothing is put between them.
    return Artifact(_text(value.get("artifactId")) or "", "".join(_parts(value.get("parts"))), append)


def _parts(value: object) -> Iterable[str]:
    for part in _objects(value):
        text, metadata = part.get("text"), part.get("metadata")
        if isinstance(text, str) and not (isinstance(metadata, dict) and metadata.get(_THOUGHT) is True):
            yield text


def _last_message(value: dict[str, Any]) -> str:
    history = _objects(value.get("history"))
    if not history or history[-1].get("role") not in {"agent", "ROLE_AGENT"}:
        return ""
    return _message(history[-1])


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _objects(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
