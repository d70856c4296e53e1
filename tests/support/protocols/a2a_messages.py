"""A2A, by the `a2a-sdk`."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial

import httpx
from a2a.client import Client
from a2a.types.a2a_pb2 import SendMessageRequest
from a2a.utils.errors import JSON_RPC_ERROR_CODE_MAP, A2AError

from support.a2a_client import REST, RPC, Received, connected, data, request, values
from support.protocols.client import Answer, RefusedError, seconds


@asynccontextmanager
async def _connect(binding: str, url: str, key: str) -> AsyncIterator["A2AMessages"]:
    with _refusals():
        async with (
            connected(url, binding, key=key, streaming=False) as whole,
            connected(url, binding, key=key) as streaming,
        ):
            yield A2AMessages(whole, streaming)


connect = partial(_connect, RPC)
"""Connects a client that uses JSON-RPC."""

connect_rest = partial(_connect, REST)
"""Connects a client that uses HTTP and JSON."""


class A2AMessages:
    """A client whose messages are tasks of the agent."""

    def __init__(self, whole: Client, streaming: Client) -> None:
        self._whole = whole
        self._streaming = streaming

    async def ask(self, message: str, *, after: Answer | None = None) -> Answer:
        """Return a task that has ended or waits."""
        return await self._send(request(message, context_id=after.more.context_id if after else ""))

    async def stream(self, message: str) -> AsyncGenerator[str, None]:
        """Yield the pieces of the task's artifact."""
        received = Received()
        with _refusals():
            async with aclosing(self._streaming.send_message(request(message))) as events:  # type: ignore[type-var]
                async for event in events:
                    before = received.text
                    received.take(event)
                    assert received.text.startswith(before)
                    if received.text != before:
                        yield received.text.removeprefix(before)
        _must_not_fail(received)

    async def approve(self, answer: Answer) -> Answer:
        """Send the approvals to the task."""
        waiting = [value["id"] for value in values(answer.more.status.message)]
        return await self._send(request(*(data(id=call, approve=True) for call in waiting), task_id=answer.more.id))

    async def _send(self, message: SendMessageRequest) -> Answer:
        received = Received()
        with _refusals():
            async for event in self._whole.send_message(message):
                received.take(event)
        _must_not_fail(received)
        task = received.task
        return Answer(
            received.text,
            tuple(value["name"] for each in task.history for value in values(each)),
            tuple(value["tool"] for value in values(task.status.message)),
            task,
        )


def _must_not_fail(received: Received) -> None:
    """Raise the error of a task that failed."""
    if received.state not in {"completed", "input_required"}:
        assert received.state == "failed"
        message = received.last if received.last.parts else received.task.status.message
        raise RefusedError(message.parts[0].text)


@contextmanager
def _refusals() -> Iterator[None]:
    """Raise RefusedError in place of the errors of the SDK, with the answer that caused it if it had a status."""
    try:
        yield
    except A2AError as error:
        if isinstance(error.__cause__, httpx.HTTPStatusError):
            answer = error.__cause__.response
            headers = dict(answer.headers)
            sentence = str(answer.json()["error"]["message"])
            raise RefusedError(
                sentence, status=answer.status_code, retry_after=seconds(headers), headers=headers
            ) from error
        raise RefusedError(error.message, status=JSON_RPC_ERROR_CODE_MAP.get(type(error))) from error
