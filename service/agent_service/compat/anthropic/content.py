"""The blocks of a client's messages: checked, and in the form that goes to the model. Pure.

Marks for the cache are left out: the agent sets its own, and the model API takes four at most. So are fields that only
mean something to the API that made them, such as the thoughts and the server tools of an earlier answer.
"""

import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from agent_service.agent.messages import is_blank
from agent_service.compat.anthropic.invalid import invalid, required_list, required_object, required_text, shown

Block = Mapping[str, Any]
Role = Literal["user", "assistant"]

_ID = re.compile(r"[a-zA-Z0-9_-]{1,256}")

_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_PDF, _PLAIN = "application/pdf", "text/plain"
_NO_FILES = "has a source of the Files API, which this agent does not have: send the content itself (base64)."
_NO_CITATIONS = "asks for citations, which this agent's answers do not have: leave it out."


def blocks(content: object, role: Role, where: str) -> list[Block]:
    """Return the blocks of a message; a text is one block. Blank texts, and what only another API knows, are left out.

    Raises:
        HTTPException: for a block that is invalid, or that this agent does not take.
    """
    if isinstance(content, str):
        return [] if is_blank(content) else [{"type": "text", "text": content}]
    found = []
    for number, value in enumerate(required_list(content, where)):
        place = f"{where}.{number}"
        block = _block(required_object(value, place), role, place)
        if block is not None:
            found.append(block)
    # The model API takes results before anything else in a message only.
    return sorted(found, key=lambda block: block["type"] != "tool_result")


def _block(block: Block, role: Role, where: str) -> Block | None:
    kind = required_text(block.get("type"), f"{where}.type")
    if kind == "text":
        return _text(block, where)
    if role == "assistant" and _is_dropped(kind):
        return None
    read = (_OF_USER if role == "user" else _OF_ASSISTANT).get(kind)
    if read is None:
        raise invalid(f"{where}.type", f"'{shown(kind)}' is not supported in a message of the {role}.")
    return read(block, where)


def _is_dropped(kind: str) -> bool:
    """Return whether a block of an earlier answer is left out: thoughts, and calls that the client did not make."""
    return kind in _DROPPED or kind.endswith("_tool_result")


_DROPPED = frozenset({"thinking", "redacted_thinking", "server_tool_use", "mcp_tool_use", "mcp_tool_result"})


def _text(block: Block, where: str) -> Block | None:
    text = required_text(block.get("text"), f"{where}.text")
    return None if is_blank(text) else {"type": "text", "text": text}


def _tool_use(block: Block, where: str) -> Block:
    name = required_text(block.get("name"), f"{where}.name")
    given = required_object(block.get("input"), f"{where}.input")
    return {"type": "tool_use", "id": _id(block.get("id"), f"{where}.id"), "name": name, "input": given}


def _tool_result(block: Block, where: str) -> Block:
    found: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": _id(block.get("tool_use_id"), f"{where}.tool_use_id"),
    }
    content = block.get("content")
    parts = _parts([] if content is None else content, f"{where}.content", _OF_RESULT)
    if parts:
        found["content"] = parts
    failed = block.get("is_error")
    if failed is not None and not isinstance(failed, bool):
        raise invalid(f"{where}.is_error", "must be true or false.")
    return {**found, "is_error": True} if failed else found


def _id(value: object, where: str) -> str:
    found = required_text(value, where)
    if not _ID.fullmatch(found):
        raise invalid(where, "must be of letters, digits, '_' and '-', 256 at most.")
    return found


def _parts(content: object, where: str, known: Mapping[str, "_Read"]) -> list[Block]:
    """Return the blocks within a block."""
    if isinstance(content, str):
        return [] if is_blank(content) else [{"type": "text", "text": content}]
    found = []
    for number, value in enumerate(required_list(content, where)):
        place = f"{where}.{number}"
        part = required_object(value, place)
        read = known.get(required_text(part.get("type"), f"{place}.type"))
        if read is None:
            raise invalid(f"{place}.type", f"'{shown(part['type'])}' is not supported here.")
        block = read(part, place)
        if block is not None:
            found.append(block)
    return found


def _image(block: Block, where: str) -> Block:
    source = required_object(block.get("source"), f"{where}.source")
    return {"type": "image", "source": _media(source, f"{where}.source", _IMAGES)}


def _document(block: Block, where: str) -> Block:
    place = f"{where}.source"
    source = required_object(block.get("source"), place)
    kind = source.get("type")
    if kind == "text":
        data = required_text(source.get("data"), f"{place}.data")
        read: Block = {"type": "text", "media_type": _PLAIN, "data": data}
    elif kind == "content":
        parts = _parts(source.get("content"), f"{place}.content", {"text": _text, "image": _image})
        read = {"type": "content", "content": parts}
    else:
        read = _media(source, place, (_PDF,))
    return {"type": "document", "source": read, **_about(block, where, "title", "context")}


def _search_result(block: Block, where: str) -> Block:
    found = {name: required_text(block.get(name), f"{where}.{name}") for name in ("source", "title")}
    _about(block, where)
    return {
        "type": "search_result",
        **found,
        "content": _parts(block.get("content"), f"{where}.content", {"text": _text}),
    }


def _about(block: Block, where: str, *names: str) -> Block:
    """Return the texts that describe a block, as far as it has them."""
    citations = block.get("citations")
    if isinstance(citations, dict) and citations.get("enabled"):
        raise invalid(f"{where}.citations", _NO_CITATIONS)
    given = {name: block[name] for name in names if block.get(name) is not None}
    return {name: required_text(value, f"{where}.{name}") for name, value in given.items()}


def _media(source: Block, where: str, types: tuple[str, ...]) -> Block:
    """Return the source of an image or a document: its bytes, or the address from which the model API loads it."""
    kind = source.get("type")
    if kind == "url":
        return {"type": "url", "url": required_text(source.get("url"), f"{where}.url")}
    if kind == "file":
        raise invalid(where, _NO_FILES)
    if kind != "base64":
        raise invalid(f"{where}.type", f"'{shown(kind)}' is not supported.")
    media_type, data = source.get("media_type"), required_text(source.get("data"), f"{where}.data")
    if media_type not in types:
        raise invalid(f"{where}.media_type", f"must be one of {', '.join(types)}.")
    try:
        if not binascii.a2b_base64(data, strict_mode=True):
            raise invalid(f"{where}.data", "is empty.")
    except (ValueError, binascii.Error):
        raise invalid(f"{where}.data", "is not base64.") from None
    return {"type": "base64", "media_type": media_type, "data": data}


def _tool_reference(block: Block, where: str) -> Block:
    """Return a text in place of the block: the model API would look for a tool whose loading is deferred."""
    name = required_text(block.get("tool_name"), f"{where}.tool_name")
    return {"type": "text", "text": f"The tool {name} is available now."}


_Read = Callable[[Block, str], Block | None]

_OF_RESULT: Mapping[str, _Read] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "tool_reference": _tool_reference,
}
_OF_USER: Mapping[str, _Read] = {
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "tool_result": _tool_result,
}
_OF_ASSISTANT: Mapping[str, _Read] = {"tool_use": _tool_use}
