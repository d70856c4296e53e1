"""The parts of a message of OpenAI's APIs as blocks of the Messages API. Pure."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any

from agent_service.agent.messages import is_blank, sendable
from agent_service.compat.openai.errors import InvalidRequestError
from agent_service.compat.openai.fields import Fields

Block = Mapping[str, Any]

_DATA_URL = re.compile(r"data:([a-zA-Z0-9.+-]+/[a-zA-Z0-9.+-]+)?((?:;[a-zA-Z0-9_.=+-]+)*),")
_IMAGES = {"image/png": "image/png", "image/jpeg": "image/jpeg", "image/jpg": "image/jpeg"}
_IMAGES |= {"image/gif": "image/gif", "image/webp": "image/webp"}
_PDF = "application/pdf"
_TEXT_TYPES = frozenset({"application/json", "application/xml", "application/yaml", "application/x-yaml"})

_NO_UPLOADS = "this agent keeps no uploaded files. Send the content itself."


def user_blocks(message: Fields) -> list[Block]:
    """Return the blocks of a user's message, or of the result of a tool. Texts of white space alone are left out.

    Raises:
        InvalidRequestError: if a part is invalid, or of a kind that this agent does not take.
    """
    return _blocks(message, "content", _USER_PARTS)


def output_blocks(message: Fields) -> list[Block]:
    """Return the blocks of the output of a function, as `user_blocks` does."""
    return _blocks(message, "output", _USER_PARTS)


def texts(message: Fields) -> str:
    """Return the text of a message whose parts can only be texts.

    Raises:
        InvalidRequestError: if a part is something else.
    """
    return "\n".join(str(block["text"]) for block in _blocks(message, "content", _TEXT_PARTS))


def _blocks(message: Fields, name: str, kinds: Mapping[str, Callable[[Fields], Block]]) -> list[Block]:
    value = message.raw(name)
    if value is None:
        return []
    if isinstance(value, str):
        text = sendable(value)
        return [] if is_blank(text) else [{"type": "text", "text": text}]
    if not isinstance(value, list):
        message.refuse_type(name, "a string or an array")
    found = []
    for part in message.objects(name) or ():
        read = kinds.get(part.needed_text("type"))
        if read is None:
            part.refuse_value("type", ", ".join(f"'{kind}'" for kind in kinds))
        block = read(part)
        if block["type"] != "text" or not is_blank(block["text"]):
            found.append(block)
    return found


def _text(part: Fields) -> Block:
    return {"type": "text", "text": part.needed_text("text")}


def _refusal(part: Fields) -> Block:
    return {"type": "text", "text": part.needed_text("refusal")}


def _image_url(part: Fields) -> Block:
    image = part.needed_object("image_url")
    return _image(image.needed_text("url"), image.at("url"))


def _input_image(part: Fields) -> Block:
    if part.text("file_id") is not None:
        raise InvalidRequestError(f"Unsupported '{part.at('file_id')}': {_NO_UPLOADS}", part.at("file_id"))
    return _image(part.needed_text("image_url"), part.at("image_url"))


def _image(url: str, path: str) -> Block:
    if url.startswith(("https://", "http://")):
        return {"type": "image", "source": {"type": "url", "url": url}}
    kind, data = _data(url, path)
    if kind not in _IMAGES:
        raise InvalidRequestError(
            f"Invalid '{path}': the image must be PNG, JPEG, GIF or WebP.", path, code="unsupported_image_media_type"
        )
    return {"type": "image", "source": {"type": "base64", "media_type": _IMAGES[kind], "data": data}}


def _file(part: Fields) -> Block:
    return _document(part.needed_object("file"))


def _document(file: Fields) -> Block:
    if file.text("file_id") is not None:
        raise InvalidRequestError(f"Unsupported '{file.at('file_id')}': {_NO_UPLOADS}", file.at("file_id"))
    url = file.text("file_url")
    if url is not None and not url.startswith(("https://", "http://")):
        raise InvalidRequestError(f"Invalid '{file.at('file_url')}': expected an HTTP URL.", file.at("file_url"))
    source = {"type": "url", "url": url} if url is not None else _file_source(file)
    name = file.text("filename")
    title = {} if name is None or is_blank(name) else {"title": name[:200]}
    return {"type": "document", "source": source, **title}


def _file_source(file: Fields) -> Block:
    path = file.at("file_data")
    kind, data = _data(file.needed_text("file_data"), path)
    if kind == _PDF:
        return {"type": "base64", "media_type": _PDF, "data": data}
    if not kind.startswith("text/") and kind not in _TEXT_TYPES:
        raise InvalidRequestError(f"Invalid '{path}': the file must be a PDF or a text.", path, code="invalid_file")
    try:
        text = sendable(base64.b64decode(data).decode())
    except UnicodeDecodeError:
        raise InvalidRequestError(
            f"Invalid '{path}': the text of the file must be UTF-8.", path, code="invalid_file"
        ) from None
    if is_blank(text):
        raise InvalidRequestError(f"Invalid '{path}': the file has no text.", path, code="invalid_file")
    return {"type": "text", "media_type": "text/plain", "data": text}


def _data(url: str, path: str) -> tuple[str, str]:
    """Return the media type of a data URL (RFC 2397), and its content in base64."""
    # Only the start is searched: a URL may have megabytes.
    match = _DATA_URL.match(url[:300])
    if match is None or not match[2].endswith(";base64"):
        raise InvalidRequestError(
            f"Invalid '{path}': expected a base64-encoded data URL, such as 'data:image/png;base64,…'.",
            path,
            code="invalid_base64",
        )
    data = url[match.end() :]
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not content:
        raise InvalidRequestError(f"Invalid '{path}': the base64 data is invalid.", path, code="invalid_base64")
    return (match[1] or "text/plain").lower(), data


def _audio(part: Fields) -> Block:
    raise InvalidRequestError(
        f"Unsupported content at '{part.path}': this agent does not take audio.", part.path, code="unsupported_value"
    )


_TEXT_PARTS: Mapping[str, Callable[[Fields], Block]] = {
    "text": _text,
    "refusal": _refusal,
    "input_text": _text,
    "output_text": _text,
}

_USER_PARTS: Mapping[str, Callable[[Fields], Block]] = {
    "text": _text,
    "image_url": _image_url,
    "file": _file,
    "input_audio": _audio,
    "input_text": _text,
    "output_text": _text,
    "input_image": _input_image,
    "input_file": _document,
}
