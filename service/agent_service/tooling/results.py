"""Results of tools in the form that a model API takes, bounded in size. Pure."""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

import mcp_types as types
import orjson

_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_PDF = "application/pdf"
_LONGEST_WORD = 200
# More pieces than this are not a result that a model can use, and each one costs tokens.
_MOST_BLOCKS = 100

Block = Mapping[str, Any]


def text_block(text: str) -> Block:
    """Return a block with a text."""
    return {"type": "text", "text": text}


def converted(
    result: types.CallToolResult, most_bytes: int, without_secrets: Callable[[str], str]
) -> tuple[Block, ...]:
    """Return the content of a result as blocks of the types `text`, `image` and `document`; at least one.

    Text beyond the bound is cut with a note. Images and documents that do not fit, and content of other types, are left
    out with a note. Structured content counts only where there is no other content: servers repeat it as text.

    Args:
        result: the result of a call.
        most_bytes: bound of all content together, images and documents as base64. Notes are not counted.
        without_secrets: removes our own credentials from a text, in case a server repeats them.
    """
    blocks = _Blocks(most_bytes, without_secrets)
    for content in result.content:
        _add(blocks, content)
    if not result.content and result.structured_content is not None:
        blocks.text(orjson.dumps(result.structured_content, default=str).decode())
    return blocks.finished()


def _add(blocks: "_Blocks", content: types.ContentBlock) -> None:
    match content:
        case types.TextContent():
            blocks.text(content.text)
        case types.ImageContent():
            blocks.data("image", content.mime_type, content.data)
        case types.AudioContent():
            blocks.left_out("audio", content.mime_type, content.data)
        case types.ResourceLink():
            about = f": {content.description}" if content.description else ""
            blocks.text(f"[link to the resource {content.uri} ({content.name}){about}]")
        case types.EmbeddedResource(resource=types.TextResourceContents() as resource):
            blocks.text(f"[resource {resource.uri}]\n{resource.text}")
        case types.EmbeddedResource(resource=types.BlobResourceContents() as resource):
            blocks.data(f"resource {resource.uri}", resource.mime_type or "", resource.blob)


class _Blocks:
    """The blocks of a result, and how many bytes are left for more."""

    def __init__(self, most_bytes: int, without_secrets: Callable[[str], str]) -> None:
        self._left = self._most = most_bytes
        self._without_secrets = without_secrets
        self._blocks: list[Block] = []
        self._cut = False
        self._dropped = 0

    def text(self, text: str) -> None:
        """Add a text, or as much of it as fits."""
        data = self._without_secrets(text).encode("utf-8", "replace")
        if len(data) > self._left:
            self._cut = True
            data = data[: self._left]
        self._left -= len(data)
        kept = data.decode("utf-8", "ignore")
        # The Messages API refuses texts of white space only.
        if kept.strip():
            self._append(text_block(kept))

    def data(self, what: str, media_type: str, data: str) -> None:
        """Add an image or a document, or a note that it is left out."""
        kind = media_type.partition(";")[0].strip().lower()
        block = "image" if kind in _IMAGES else "document" if kind == _PDF else None
        if block is None or not _is_base64(data):
            self.left_out(what, media_type, data)
        elif len(data) > self._left:
            self._note(f"{what} ({kind}, {len(data) * 3 // 4} bytes) left out: larger than the limit of the result")
        else:
            self._left -= len(data)
            self._append({"type": block, "source": {"type": "base64", "media_type": kind, "data": data}})

    def left_out(self, what: str, media_type: str, data: str) -> None:
        """Add a note that content of a type that models do not take is left out."""
        kind = media_type[:_LONGEST_WORD] or "of unknown type"
        self._note(f"{what} ({kind}, {len(data) * 3 // 4} bytes) left out: the model cannot read this type")

    def finished(self) -> tuple[Block, ...]:
        """Return the blocks, with notes at the end on what is missing."""
        notes = [f"[text cut: the limit of a result is {self._most} bytes]"] if self._cut else []
        notes += [f"[{self._dropped} more pieces of content left out]"] if self._dropped else []
        return (*self._blocks, *map(text_block, notes)) or (text_block("[no content]"),)

    def _note(self, text: str) -> None:
        self._append(text_block(f"[{self._without_secrets(text)[: 4 * _LONGEST_WORD]}]"))

    def _append(self, block: Block) -> None:
        if len(self._blocks) < _MOST_BLOCKS:
            self._blocks.append(block)
        else:
            self._dropped += 1


def _is_base64(data: str) -> bool:
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return False
    return bool(data)
