"""Removes invalid tools from the lists of a server before the SDK reads them: it refuses a list for one of them."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from types import TracebackType
from typing import Any, Self

import mcp_types as types
from mcp.client import Transport
from mcp.shared.message import SessionMessage

from agent_service.tooling.listing import well_formed

OnInvalid = Callable[[int], None]
Message = SessionMessage | Exception


class Sifted:
    """A transport whose lists of tools contain only those of the required form."""

    def __init__(self, inner: AbstractAsyncContextManager[Any], on_invalid: OnInvalid) -> None:
        """Wrap the transport `inner`. `on_invalid` is called with the number of tools that were removed."""
        self._inner = inner
        self._on_invalid = on_invalid

    async def __aenter__(self) -> Any:
        read, write = await self._inner.__aenter__()
        return _Stream(read, self._on_invalid), write

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, trace)


class _Stream:
    """The messages of a server, with their lists of tools sifted."""

    def __init__(self, inner: Any, on_invalid: OnInvalid) -> None:
        self._inner = inner
        self._on_invalid = on_invalid

    @property
    def last_context(self) -> Context | None:
        """The context of the sender of the last message."""
        context: Context | None = self._inner.last_context
        return context

    async def receive(self) -> Message:
        """Return the next message."""
        return self._sifted(await self._inner.receive())

    async def aclose(self) -> None:
        """Close the stream."""
        await self._inner.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        return self._sifted(await self._inner.__anext__())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _sifted(self, item: Message) -> Message:
        if isinstance(item, SessionMessage) and isinstance(item.message, types.JSONRPCResponse):
            tools = item.message.result.get("tools")
            if isinstance(tools, list):
                kept = [each for tool in tools if (each := well_formed(tool)) is not None]
                item.message.result["tools"] = kept
                if len(kept) < len(tools):
                    self._on_invalid(len(tools) - len(kept))
        return item


def sifted(inner: AbstractAsyncContextManager[Any], on_invalid: OnInvalid) -> Transport:
    """Return `inner` as a transport whose lists of tools contain only those of the required form."""
    transport: Any = Sifted(inner, on_invalid)
    result: Transport = transport
    return result
