"""Answers to HTTP/1.0 clients, which do not support chunks."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

OLD_VERSIONS = frozenset({"0.9", "1.0"})


class UntilClose:
    """An app for HTTP/1.0 clients, which do not support chunks.

    The end of the connection marks the end of an answer of unknown length.
    """

    def __init__(self, app: Any, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle
        self._unknown = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer the request (ASGI)."""

        async def send_unframed(message: Any) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message.get("headers", ())}
                self._unknown = b"content-length" not in names
                if self._unknown:
                    self._cycle.chunked_encoding = False
            elif self._unknown:
                # uvicorn compares the sent length with the announced one.
                self._cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await self._app(scope, receive, send_unframed)
