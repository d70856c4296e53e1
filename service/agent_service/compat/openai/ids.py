"""The ids of responses, conversations and approval requests. Pure.

Each has the id of the conversation and a digest of the user's message in it. So the agent finds the conversation of a
response, and whether it was the last one in it, without a record of its own. Those of a response in the background have
the id of its task.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass

_TASK_RESPONSE = re.compile(r"resp_([0-9a-f]{32})_task")
_TASK_APPROVAL = re.compile(r"mcpr_([0-9a-f]{32})_task_([0-9a-f.-]{1,64})")
_RESPONSE = re.compile(r"resp_([0-9a-f]{32})([0-9a-f]{8})[0-9a-f]{16}")
_CONVERSATION = re.compile(r"conv_([0-9a-f]{32})")
_APPROVAL = re.compile(r"mcpr_([0-9a-f]{32})([0-9a-f]{8})_([0-9a-f.-]{1,64})")


@dataclass(frozen=True, slots=True)
class Place:
    """A message in a conversation. `digest` is that of the message."""

    conversation_id: str
    digest: str

    def response_id(self) -> str:
        """Return a new id of a response to the message."""
        return f"resp_{_plain(self.conversation_id)}{self.digest}{secrets.token_hex(8)}"

    def approval_id(self, call: str) -> str:
        """Return the id of the request to approve a call, which has the id `call` in our own API."""
        return f"mcpr_{_plain(self.conversation_id)}{self.digest}_{call}"


@dataclass(frozen=True, slots=True)
class TaskPlace:
    """A task, which answers in the background. Its response has the same id whenever it is asked for."""

    task_id: str

    def response_id(self) -> str:
        """Return the id of the response."""
        return f"resp_{_plain(self.task_id)}_task"

    def approval_id(self, call: str) -> str:
        """Return the id of the request to approve a call, as `Place` does."""
        return f"mcpr_{_plain(self.task_id)}_task_{call}"


AnyPlace = Place | TaskPlace


def place_of(conversation_id: str, message: str) -> Place:
    """Return the place of a message."""
    return Place(conversation_id, hashlib.sha256(message.encode("utf-8", "replace")).hexdigest()[:8])


def of_response(text: str) -> AnyPlace | None:
    """Return the place that a response answered; None if the id is not one of ours."""
    if match := _TASK_RESPONSE.fullmatch(text):
        return TaskPlace(_dashed(match[1]))
    match = _RESPONSE.fullmatch(text)
    return None if match is None else Place(_dashed(match[1]), match[2])


def of_conversation(text: str) -> str | None:
    """Return our own id of a conversation; None if the id is not one of ours."""
    match = _CONVERSATION.fullmatch(text)
    return None if match is None else _dashed(match[1])


def of_approval(text: str) -> tuple[AnyPlace, str] | None:
    """Return the place of an approval request, and our own id of its call; None if the id is not one of ours."""
    if match := _TASK_APPROVAL.fullmatch(text):
        return TaskPlace(_dashed(match[1])), match[2]
    match = _APPROVAL.fullmatch(text)
    return None if match is None else (Place(_dashed(match[1]), match[2]), match[3])


def conversation_of(conversation_id: str) -> str:
    """Return the id of a conversation in the form of OpenAI's."""
    return f"conv_{_plain(conversation_id)}"


def _plain(conversation_id: str) -> str:
    return conversation_id.replace("-", "")


def _dashed(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
