"""What a message of A2A asks: a question, or decisions on tool calls. Pure."""

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from a2a.types.a2a_pb2 import Message, Part
from a2a.utils.errors import ContentTypeNotSupportedError, InvalidParamsError
from google.protobuf.json_format import MessageToDict

from agent_service.agent.messages import is_blank
from agent_service.compat.a2a.card import INPUT_MODES

# The form of the ids of conversations.
_CONTEXT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_LONGEST_REASON = 2000
_LONGEST_CALL_ID = 64

_TAKEN = "it takes text, and images as image/png, image/jpeg, image/gif or image/webp"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: its text, the blocks of the Messages API if it is more than text, and further instructions."""

    text: str
    content: tuple[Mapping[str, Any], ...] = ()
    instructions: str | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision on the tool call with this id."""

    id: str
    approve: bool
    reason: str = ""


def question(message: Message) -> Asked:
    """Return the question in a message.

    Raises:
        InvalidParamsError: if it has no text, or text that cannot be used.
        ContentTypeNotSupportedError: if it has parts of another kind.
    """
    blocks = [_block(part) for part in message.parts]
    text = "\n".join(block["text"] for block in blocks if block["type"] == "text")
    if "\0" in text:
        raise InvalidParamsError("The message must not contain NUL characters.")
    if is_blank(text):
        raise InvalidParamsError("The message needs a text part with more than white space.")
    only_text = all(block["type"] == "text" for block in blocks)
    # The model API refuses blocks without text.
    content = (
        () if only_text else tuple(each for each in blocks if each["type"] != "text" or not is_blank(each["text"]))
    )
    return Asked(text, content, _instructions(message))


def decisions(message: Message) -> list[Decided]:
    """Return the decisions in the data parts of a message.

    Raises:
        InvalidParamsError: if a part is no decision, or there is none.
    """
    found = [_decision(part) for part in message.parts if part.WhichOneof("content") == "data"]
    if not found or len(found) < len(message.parts):
        raise InvalidParamsError(
            'The task waits for an approval: send only data parts, each of the form {"id": "<id of the call>", '
            '"approve": true} or {"id": "<id of the call>", "approve": false, "reason": "<text>"}.'
        )
    return found


def check_context(context_id: str) -> None:
    """Raise InvalidParamsError unless a client may use this id for its context. An empty one is for a new context."""
    if context_id and not _CONTEXT_ID.fullmatch(context_id):
        raise InvalidParamsError(
            "This agent takes as contextId one that it returned, or a UUID in lower case; omit it for a new context."
        )


def _block(part: Part) -> dict[str, Any]:
    kind = part.WhichOneof("content")
    if kind == "text":
        return {"type": "text", "text": part.text}
    media_type = part.media_type.partition(";")[0].strip().lower()
    if kind not in {"raw", "url"} or media_type == "text/plain" or media_type not in INPUT_MODES:
        what = "data parts" if kind == "data" else f"files of the type {media_type[:100] or '(unknown)'}"
        raise ContentTypeNotSupportedError(f"This agent does not take {what}; {_TAKEN}.")
    if kind == "url":
        return {"type": "image", "source": {"type": "url", "url": _url(part.url)}}
    data = base64.b64encode(part.raw).decode("ascii")
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _url(url: str) -> str:
    # The model API fetches it, not this service.
    if not url.startswith("https://"):
        raise InvalidParamsError("The URL of an image must begin with https://.")
    return url


def _instructions(message: Message) -> str | None:
    if "system" not in message.metadata:
        return None
    text = message.metadata["system"]
    if not isinstance(text, str) or "\0" in text:
        raise InvalidParamsError("metadata.system must be a text without NUL characters.")
    return None if is_blank(text) else text


def _decision(part: Part) -> Decided:
    value = MessageToDict(part.data)
    found = value if isinstance(value, dict) else {}
    call, approve, reason = found.get("id"), found.get("approve"), found.get("reason", "")
    if not isinstance(call, str) or not isinstance(approve, bool) or not isinstance(reason, str):
        raise InvalidParamsError('A decision is {"id": string, "approve": boolean, "reason": string (optional)}.')
    if len(call) > _LONGEST_CALL_ID or len(reason) > _LONGEST_REASON or "\0" in reason:
        raise InvalidParamsError(f"The reason of a decision must be a text of at most {_LONGEST_REASON} characters.")
    return Decided(call, approve, reason)


def has_data(parts: Iterable[Part]) -> bool:
    """Return whether a part is data."""
    return any(part.WhichOneof("content") == "data" for part in parts)
