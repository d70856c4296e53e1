"""The protocols that an agent speaks, each with its official client, and what a client sees where they differ."""

from dataclasses import dataclass

from support.protocols import native, openai_chat
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

    `outlives_connection` is whether an answer goes on without its client.
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
    outlives_connection: bool = False

    def __str__(self) -> str:
        return self.name


PROTOCOLS = (
    Spoken(
        "native",
        "native",
        native.connect,
        limit_headers=("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
        too_long=422,
    ),
    Spoken(
        "openai-chat",
        "openai",
        openai_chat.connect,
        limit_headers=(
            "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        ),
    ),
)
