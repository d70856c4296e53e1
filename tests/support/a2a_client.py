"""The official client of A2A, towards an agent of ours."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.types.a2a_pb2 import (
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    StreamResponse,
    Task,
    TaskState,
)
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Value

from support.eventually import eventually_async

RPC, REST = "JSONRPC", "HTTP+JSON"

_ENDED = {
    TaskState.TASK_STATE_COMPLETED,
    TaskState.TASK_STATE_FAILED,
    TaskState.TASK_STATE_CANCELED,
    TaskState.TASK_STATE_REJECTED,
}


@asynccontextmanager
async def connected(
    url: str, binding: str = RPC, version: str = "1.0", *, key: str = "", streaming: bool = True, polling: bool = False
) -> AsyncIterator[Client]:
    """Yield a client that has read the card and uses one of its interfaces."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(timeout=60, headers=headers) as http:
        card = await A2ACardResolver(http, url).get_agent_card()
        wanted = [
            each
            for each in card.supported_interfaces
            if (each.protocol_binding, each.protocol_version) == (binding, version)
        ]
        assert len(wanted) == 1, card.supported_interfaces
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(wanted)
        config = ClientConfig(
            streaming=streaming, polling=polling, httpx_client=http, supported_protocol_bindings=[binding]
        )
        yield ClientFactory(config).create(card)


def request(*parts: Part | str, context_id: str = "", task_id: str = "", **metadata: Any) -> SendMessageRequest:
    """Return a request with a message of these parts; a string is a text part."""
    found = [Part(text=part) if isinstance(part, str) else part for part in parts]
    message = Message(
        role=Role.ROLE_USER, message_id=str(uuid.uuid4()), parts=found, context_id=context_id, task_id=task_id
    )
    if metadata:
        message.metadata.update(metadata)
    return SendMessageRequest(message=message)


def data(**value: Any) -> Part:
    """Return a data part."""
    return Part(data=ParseDict(value, Value()))


def values(message: Message) -> list[Any]:
    """Return the values of the data parts of a message."""
    return [MessageToDict(part.data) for part in message.parts if part.WhichOneof("content") == "data"]


def answer_of(task: Task) -> str:
    """Return the text of the answer of a task."""
    return "".join(part.text for artifact in task.artifacts for part in artifact.parts)


async def ended(client: Client, task_id: str) -> Task:
    """Return a task once it has ended. One that may have ended already takes no subscriber."""

    async def found() -> Task | None:
        task = await client.get_task(GetTaskRequest(id=task_id))
        return task if task.status.state in _ENDED else None

    return await eventually_async(found, f"the task {task_id} has ended")


@dataclass
class Received:
    """What a client has after the events of a stream: the task, its states in their order, its answer and tool data."""

    task: Task = field(default_factory=Task)
    states: list[int] = field(default_factory=list)
    pieces: int = 0
    tools: list[Any] = field(default_factory=list)
    last: Message = field(default_factory=Message)
    _texts: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(self._texts.values())

    @property
    def state(self) -> str:
        return str(TaskState.Name(self.states[-1])).removeprefix("TASK_STATE_").lower()

    def take(self, event: StreamResponse) -> None:
        if event.HasField("task"):
            self.task.CopyFrom(event.task)
            self._note(event.task.status.state)
            self._texts |= {each.artifact_id: answer_of(event.task) for each in event.task.artifacts}
        elif event.HasField("status_update"):
            self._note(event.status_update.status.state)
            self.last = event.status_update.status.message
            self.tools += values(self.last)
        elif event.HasField("artifact_update"):
            artifact = event.artifact_update.artifact
            before = self._texts.get(artifact.artifact_id, "") if event.artifact_update.append else ""
            self._texts[artifact.artifact_id] = before + "".join(part.text for part in artifact.parts)
            self.pieces += 1

    def _note(self, state: int) -> None:
        if self.states[-1:] != [state]:
            self.states.append(state)


async def collect(events: AsyncIterator[StreamResponse]) -> Received:
    """Return what all events of a stream amount to."""
    received = Received()
    async for event in events:
        received.take(event)
    return received
