"""What every client of an agent does, whatever its protocol, and the one form of its answers and errors."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Answer:
    """An answer, as the client shows it.

    `tools` are the tools that the agent called, and `waits` those that wait for an approval. `more` is what the client
    needs to continue the conversation or the turn.
    """

    text: str
    tools: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    more: Any = field(default=None, repr=False)


class RefusedError(Exception):
    """The client's error for a request without an answer, or with an incomplete one.

    `status` is the HTTP status or the code of JSON-RPC that the client reports; None if it reports none. `retry_after`
    is in seconds. `headers` are those of the HTTP answer, as far as the client shows them.
    """

    def __init__(
        self,
        sentence: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status}: {sentence}")
        self.sentence = sentence
        self.status = status
        self.retry_after = retry_after
        self.headers = dict(headers or {})


class Client(Protocol):
    """A connected client. Its methods raise RefusedError in place of the errors of its library."""

    async def ask(self, message: str, *, after: Answer | None = None) -> Answer:
        """Return the whole answer to a message, in the conversation of an earlier answer if there is one."""
        ...

    def stream(self, message: str) -> AsyncGenerator[str, None]:
        """Yield the text of the answer to a message as it arrives. The client leaves when the generator is closed."""
        ...

    async def approve(self, answer: Answer) -> Answer:
        """Approve all calls that an answer waits for, and return the rest of the answer."""
        ...


Connect = Callable[[str, str], AbstractAsyncContextManager[Client]]
"""Connects a client to the agent at a URL, with a key."""


def seconds(headers: Mapping[str, str]) -> float | None:
    """Return the value of the header `Retry-After`."""
    value = headers.get("retry-after")
    return None if value is None else float(value)
