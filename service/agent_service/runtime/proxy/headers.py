"""The headers that are passed on, in both directions. Pure; names are in lower case.

Headers of one connection are removed (RFC 9110, 7.6.1), as are the client's claims about its address and the agent's
own keys. What the agent states about the client takes their place.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from multidict import CIMultiDict

from agent_service.agent.turns import BAGGAGE

Headers = Sequence[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

# `Host` is the runtime's, the length is set from the body, and the server has answered `Expect` by itself.
_REPLACED = frozenset({"host", "content-length", "expect", "x-real-ip", "x-request-id", "forwarded", "traceparent"})
_REPLACED_PREFIXES = ("x-forwarded-", "x-portside-")
_HANDSHAKE_PREFIX = "sec-websocket-"

# The server adds its own `Date`, the middleware the others.
_ANSWERED = frozenset({"date", "x-request-id", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"})

# RFC 9110, 5.6.2 and 5.5.
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")


@dataclass(frozen=True, slots=True)
class Sender:
    """What the runtime learns about the sender of a request."""

    address: str
    scheme: str
    host: str


def for_runtime(
    headers: Headers,
    sender: Sender,
    of_turn: Mapping[str, str],
    is_key: Callable[[bytes, bytes], bool],
    *,
    websocket: bool = False,
) -> CIMultiDict[str]:
    """Return the headers of a request to the runtime.

    Args:
        headers: headers as received.
        sender: what to state about the sender.
        of_turn: headers by which the runtime knows the turn. Members of the client's `baggage` are kept.
        is_key: whether a header carries a key of the agent.
        websocket: whether a WebSocket is opened: its handshake is a new one.
    """
    dropped = _HOP_BY_HOP | _named(headers)
    passed: CIMultiDict[str] = CIMultiDict()
    for name, value in headers:
        text = name.decode("latin-1")
        # CGI and its successors do not distinguish `_` from `-` in names.
        plain = text.replace("_", "-")
        if plain in dropped or plain in _REPLACED or plain.startswith(_REPLACED_PREFIXES):
            continue
        if is_key(plain.encode("latin-1"), value) or (websocket and plain.startswith(_HANDSHAKE_PREFIX)):
            continue
        passed.add(text, _text(value))
    passed["X-Forwarded-For"] = sender.address
    passed["X-Forwarded-Proto"] = sender.scheme
    if sender.host:
        passed["X-Forwarded-Host"] = sender.host
    baggage = ",".join(passed.popall("baggage", [])).split(",")
    others = [each.strip() for each in baggage if each.partition("=")[0].strip() != BAGGAGE]
    passed.update(of_turn)
    passed["baggage"] = ",".join([*filter(None, others), of_turn["baggage"]])
    return passed


def for_client(headers: Headers, *, has_body: bool) -> list[tuple[bytes, bytes]]:
    """Return the headers of the runtime's answer for the client.

    Args:
        headers: headers as received from the runtime.
        has_body: whether a body can follow: not after the statuses 204 and 304.

    Raises:
        ValueError: a header is not valid.
    """
    lowered = [(name.lower(), value) for name, value in headers]
    if not all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in lowered):
        raise ValueError("has a header that is not valid")
    dropped = _HOP_BY_HOP | _ANSWERED | _named(lowered)
    if not has_body or _one(lowered, b"content-length") is None or _all(lowered, b"transfer-encoding"):
        dropped |= {"content-length"}
    else:
        dropped -= {"content-length"}
    return [(name, value) for name, value in lowered if name.decode("latin-1") not in dropped]


def body_length(headers: Headers) -> int | None:
    """Return the announced length of a request's body; None if the body is chunked.

    Raises:
        ValueError: the headers leave open where the body ends, so that two servers could disagree.
    """
    codings = _all(headers, b"transfer-encoding")
    lengths = _all(headers, b"content-length")
    if not codings:
        if not lengths:
            return 0
        length = _one(headers, b"content-length")
        if length is None:
            raise ValueError("The request has more than one Content-Length, or one that is not a number.")
        return length
    if lengths or [coding.strip().lower() for coding in codings] != [b"chunked"]:
        raise ValueError("The request has another Transfer-Encoding than `chunked`, or also a Content-Length.")
    return None


def _one(headers: Headers, name: bytes) -> int | None:
    values = _all(headers, name)
    return int(values[0]) if len(values) == 1 and values[0].isdigit() else None


def _all(headers: Headers, wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]


def _named(headers: Headers) -> frozenset[str]:
    """Return the names that `Connection` lists: they concern this connection alone."""
    return frozenset(_tokens(_all(headers, b"connection")))


def _tokens(values: Iterable[bytes]) -> Iterator[str]:
    for value in values:
        for token in value.decode("latin-1").lower().split(","):
            yield token.strip()


def _text(value: bytes) -> str:
    # aiohttp writes headers in UTF-8, so this keeps the bytes of whatever is UTF-8.
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
