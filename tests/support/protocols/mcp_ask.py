"""The tool of MCP, by the `mcp` SDK."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import mcp_types as types
from mcp import Client, MCPError
from mcp.client.context import ClientRequestContext

from support.mcp_agent import mcp_client, said
from support.protocols.client import Answer, RefusedError

# Reported as progress, but no text of the answer.
NOTICES = ("Calling the tool ", "The tool ", "The agent is working")


@asynccontextmanager
async def connect(url: str, key: str) -> AsyncIterator["McpAsk"]:
    """Connect a client."""
    user = _User()
    with _refusals():
        async with mcp_client(url, headers={"Authorization": f"Bearer {key}"}, elicit=user.answer) as client:
            # As every host does. Otherwise the SDK lists the tools after the first answer, to check it.
            await client.list_tools()
            yield McpAsk(client, user)


class _User:
    """Is asked for approvals, and answers when a test does."""

    def __init__(self) -> None:
        self.questions: asyncio.Queue[str] = asyncio.Queue()
        self.approved = asyncio.Event()

    async def answer(self, context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:
        await self.questions.put(params.message)
        await self.approved.wait()
        return types.ElicitResult(action="accept", content={"approve": True})


class McpAsk:
    """A client of the tool `ask`. A call that waits for an approval lasts until its user has decided."""

    def __init__(self, client: Client, user: _User) -> None:
        self._client = client
        self._user = user

    async def ask(self, message: str, *, after: Answer | None = None) -> Answer:
        """Return the structured result, or the question that the user is asked."""
        continued = {} if after is None else {"conversation_id": after.more["conversation_id"]}
        call = asyncio.create_task(self._client.call_tool("ask", {"message": message, **continued}))
        question = asyncio.create_task(self._user.questions.get())
        try:
            await asyncio.wait([call, question], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            call.cancel()
            raise
        if call.done():
            question.cancel()
            return _answer(await _result(call))
        return Answer("", (), (question.result().split(" tool ")[1].split()[0],), call)

    async def stream(self, message: str) -> AsyncGenerator[str, None]:
        """Yield what each report of progress adds to the text, and at last the rest."""
        reports: asyncio.Queue[str | None] = asyncio.Queue()

        async def report(progress: float, total: float | None, message: str | None) -> None:
            await reports.put(message or "")

        call = asyncio.create_task(self._client.call_tool("ask", {"message": message}, progress_callback=report))
        call.add_done_callback(lambda _: reports.put_nowait(None))
        seen = ""
        try:
            while (text := await reports.get()) is not None:
                if text.startswith(seen) and not text.startswith(NOTICES):
                    yield text.removeprefix(seen)
                    seen = text
            text = _answer(await _result(call)).text
            assert text.startswith(seen)
            yield text.removeprefix(seen)
        finally:
            call.cancel()

    async def approve(self, answer: Answer) -> Answer:
        """Answer the question, and return the result of the call that waited."""
        self._user.approved.set()
        return _answer(await _result(answer.more))


async def _result(call: asyncio.Task[types.CallToolResult]) -> dict[str, Any]:
    with _refusals():
        found = await call
    if found.is_error:
        raise RefusedError(said(found))
    assert found.structured_content is not None
    structured: dict[str, Any] = found.structured_content
    return structured


def _answer(found: dict[str, Any]) -> Answer:
    tools = tuple(step["name"] for step in found.get("steps", ()))
    return Answer(found["response"], tools, tuple(call["tool"] for call in found.get("approvals", ())), found)


@contextmanager
def _refusals() -> Iterator[None]:
    """Raise RefusedError in place of the errors of the SDK."""
    try:
        yield
    except (MCPError, ExceptionGroup) as found:
        error = _cause(found)
        data = error.data if isinstance(error.data, dict) else {}
        raise RefusedError(
            error.message, status=data.get("status", error.code), retry_after=data.get("retryAfter")
        ) from found


def _cause(error: Exception) -> MCPError:
    """Return the one error in the groups of the SDK's tasks."""
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, MCPError), error
    return error
