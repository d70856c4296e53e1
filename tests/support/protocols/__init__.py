"""The protocols that an agent speaks, each with its official client, and what a client sees where they differ."""

from dataclasses import dataclass
from typing import Any

from support.protocols import a2a_messages, anthropic_messages, mcp_ask, native, openai_chat, openai_responses
from support.protocols.client import Connect


@dataclass(frozen=True)
class Spoken:
    """A protocol, and the expectations of its clients.

    `label` is its name in the metrics. The others are what the client reports, as an HTTP status or a code of JSON-RPC,
    or None if it reports neither:

    - `fault`: the model fails before the first byte; `stream_fault`: the same in a stream.
    - `unknown_key`: the key is not one of the agent's.
    - `limited`: the client has no requests left; `limit_headers` are the headers with its limit.
    - `too_long`: the input has too many tokens; `too_large`: the body has too many bytes.
    - `draining`: the process is shutting down.
    - `unavailable`: Redis is away. A protocol whose answers need no Redis has none.

    `outlives_connection` is whether an answer goes on without its client. `reports_every_piece` is whether a stream has
    all text that arrived before an error.
    """

    name: str
    label: str
    connect: Connect
    fault: int | None = 502
    stream_fault: int | None = 502
    unknown_key: int | None = 401
    limited: int | None = 429
    limit_headers: tuple[str, ...] = ()
    too_long: int | None = 400
    too_large: int | None = 413
    draining: int | None = 503
    unavailable: int | None = None
    outlives_connection: bool = False
    reports_every_piece: bool = True

    def __str__(self) -> str:
        return self.name


_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
_OPENAI_HEADERS = tuple(f"{name}-requests" for name in _HEADERS)
_ANTHROPIC_HEADERS = tuple(f"anthropic-ratelimit-requests-{name}" for name in ("limit", "remaining", "reset"))

_A2A: dict[str, Any] = {
    "fault": None,
    "stream_fault": None,
    "limit_headers": _HEADERS,
    "too_long": -32602,
    "outlives_connection": True,
}

PROTOCOLS = (
    Spoken("native", "native", native.connect, limit_headers=_HEADERS, too_long=422),
    Spoken("openai-chat", "openai", openai_chat.connect, limit_headers=_OPENAI_HEADERS),
    Spoken("openai-responses", "openai", openai_responses.connect, limit_headers=_OPENAI_HEADERS),
    Spoken("anthropic", "anthropic", anthropic_messages.connect, limit_headers=_ANTHROPIC_HEADERS),
    # A message is a task of the agent, which fails, and goes on without its client.
    Spoken("a2a", "a2a", a2a_messages.connect, unavailable=-32603, **_A2A),
    Spoken("a2a-rest", "a2a", a2a_messages.connect_rest, unavailable=503, **{**_A2A, "too_long": 400}),
    # What keeps the tool from answering is its result, for the model that called it. The SDK shows no headers.
    Spoken("mcp", "mcp", mcp_ask.connect, fault=None, stream_fault=None, too_long=None, reports_every_piece=False),
)
