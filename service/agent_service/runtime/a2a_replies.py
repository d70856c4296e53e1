"""Readers of the replies of an A2A agent: events, or one object."""

from typing import Any

from agent_service.runtime import answers, errors
from agent_service.runtime.a2a_answer import Answer
from agent_service.runtime.a2a_card import JSONRPC, Interface
from agent_service.runtime.a2a_errors import of_error
from agent_service.runtime.a2a_events import event


class Stream(answers.Events):
    """Reads the events of a stream into `answer`."""

    def __init__(self, interface: Interface, answer: Answer) -> None:
        super().__init__()
        self._interface = interface
        self._answer = answer

    def _event(self, name: bytes, data: bytes) -> str:
        if not data.strip():
            return ""
        try:
            value = answers.loads(data)
        except ValueError as error:
            raise errors.unreadable("has an event that is not JSON", upstream=str(error)) from error
        if name == b"error":
            raise of_error(value.get("error", value) if isinstance(value, dict) else value)
        try:
            return self._answer.take(event(result(value, self._interface)))
        finally:
            self.ended = self._answer.ended

    def _check_end(self) -> None:
        """Accept the end: where the task goes on without a stream, it is polled."""


class Whole(answers.Whole):
    """Reads one object into `answer`: a message or a task, or the error in place of a stream."""

    def __init__(self, interface: Interface, answer: Answer) -> None:
        super().__init__()
        self._interface = interface
        self._answer = answer

    def _text(self, value: Any) -> str:
        return self._answer.take(event(result(value, self._interface)))


def reader(media_type: str, interface: Interface, answer: Answer) -> answers.Reader:
    """Return the reader for a reply of this media type. An agent that streams reports an early error as JSON."""
    if media_type == answers.EVENTS:
        return Stream(interface, answer)
    if answers.is_json(media_type):
        return Whole(interface, answer)
    return answers.Unknown(media_type)


def result(value: object, interface: Interface) -> dict[str, Any]:
    """Return the result of a call: what is in the envelope of JSON-RPC, or the object itself.

    Raises:
        ModelError: the agent reports an error, or the reply has another form.
    """
    if isinstance(value, dict):
        if value.get("error") is not None:
            raise of_error(value["error"])
        found = value.get("result") if interface.binding == JSONRPC else value
        if isinstance(found, dict):
            return found
    raise errors.unreadable("is not a reply of A2A: it has no result")
