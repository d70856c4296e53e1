"""`GET /tasks/{task_id}/events`: what happens in a task, as server-sent events that any replica can go on with."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from agent_service.middleware.direct_send import direct_send
from agent_service.routes.dependencies import ComponentsDep, owner
from agent_service.routes.disconnect import ClientGoneError, WhileConnected
from agent_service.routes.errors import describe
from agent_service.routes.sse import COUNT, HEADERS, PIECES, STRING, event_stream, schema_of
from agent_service.routes.tasks import TaskId
from agent_service.tasks.event_record import StoredEvent
from agent_service.tasks.following import Following, InvalidPositionError, UnknownTaskError

router = APIRouter(prefix="/tasks", tags=["tasks"])

_HEARTBEAT = b": waiting for the task\n\n"

_EVENT = {
    "oneOf": [
        *PIECES,
        schema_of("restarted", content=STRING),
        schema_of("resumed", attempt=COUNT),
        schema_of(
            "done",
            {"conversation_id": STRING, "stop_reason": STRING, "warning": STRING},
            input_tokens=COUNT,
            output_tokens=COUNT,
        ),
        schema_of(
            "input_required", {"conversation_id": STRING}, approvals={"type": "array", "items": {"type": "object"}}
        ),
        schema_of("error", message=STRING, code=STRING),
    ]
}

_POSITION = "The events after the one with this id are sent; without it, all."

_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events, each with an `id`. The data of each is a JSON object, as of "
        "`/chat/stream`: `text`, `tool_use`, `tool_result`, and at the end `done`, `input_required` while calls wait "
        'for approvals, or `{"type":"error","message","code"}`. Also `{"type":"resumed","attempt"}` when another '
        'process goes on with the task, and `{"type":"restarted","content"}` when the text so far is replaced by this '
        "one. A stream that ends without a last event goes on at another replica: send the request again with "
        "`Last-Event-ID`.",
        "content": event_stream(_EVENT, id=STRING),
    },
    204: {"description": "The event with this id was the last one. Browsers connect no more."},
}


@router.get(
    "/{task_id}/events", response_class=StreamingResponse, responses={**describe(404, 422, 429, 503), **_EVENTS}
)
async def follow(
    task_id: TaskId,
    request: Request,
    components: ComponentsDep,
    last_event_id: Annotated[str | None, Header(max_length=160, description=_POSITION)] = None,
    after: Annotated[
        str | None, Query(max_length=160, description="The same as `Last-Event-ID`, which takes precedence.")
    ] = None,
) -> Response:
    """Follow a task: send the events so far, and then each one as it happens, until the task ends or waits."""
    following = components.events.follow(owner(request), task_id, last_event_id or after)
    try:
        await following.start()
    except UnknownTaskError as error:
        raise HTTPException(404, str(error)) from None
    except InvalidPositionError as error:
        raise HTTPException(422, str(error)) from None
    if following.is_over:
        await following.aclose()
        return Response(status_code=204)
    return TaskEventStream(following, components.settings.stream_heartbeat_seconds)


def _written(event: StoredEvent) -> bytes:
    return b"id: %b\ndata: %b\n\n" % (event.id.encode("ascii"), event.text)


class TaskEventStream(Response):
    """Sends events as fast as the client reads them."""

    def __init__(
        self,
        following: Following,
        heartbeat_seconds: float,
        *,
        start: bytes = _HEARTBEAT,
        written: Callable[[StoredEvent], bytes] = _written,
    ) -> None:
        """Take the events.

        Args:
            following: the events; they have been started.
            heartbeat_seconds: interval of heartbeats while there are none.
            start: what is sent first. A client that waits for the first event knows that it is connected.
            written: returns an event in the form of the client's protocol.
        """
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._following = following
        self._start = start
        self._form = written
        self._heartbeat_seconds = heartbeat_seconds
        # Two tasks write: this one, and the one that watches the connection, which writes heartbeats.
        self._writing = asyncio.Lock()
        self._written_at = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request (ASGI)."""
        self._send = direct_send(scope, send)
        try:
            async with WhileConnected(receive, beat=self._beat, beat_seconds=self._heartbeat_seconds):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._write(self._start)
                data = b""
                # The task may expire.
                with suppress(UnknownTaskError):
                    async for event in self._following:
                        data = b"".join(map(self._form, (event, *self._following.take())))
                        if self._following.is_over:
                            break
                        await self._write(data)
                        data = b""
                async with self._writing:
                    await send({"type": "http.response.body", "body": data, "more_body": False})
        except ClientGoneError:
            pass
        finally:
            await self._following.aclose()

    async def _beat(self) -> float:
        silence = time.monotonic() - self._written_at
        if silence < self._heartbeat_seconds:
            return self._heartbeat_seconds - silence
        await self._write(_HEARTBEAT)
        return self._heartbeat_seconds

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            self._written_at = time.monotonic()
