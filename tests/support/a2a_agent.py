"""An A2A agent on the server of the official SDK. The first word of a message says how it is answered."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from a2a.helpers.proto_helpers import new_task_from_user_message, new_text_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Message, TaskState
from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from support.eventually import eventually
from support.runtime_calls import call_tool
from testbed.ports import free_port

HEALTH = "/up"
WELL_KNOWN = "/.well-known/agent-card.json"
SECRET = "The password is hunter2."


@dataclass
class Agent(AgentExecutor):
    """Answers by the first word of a message, and records what it received.

    Its contexts are the texts of earlier messages, by `contextId`.
    """

    messages: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    contexts: dict[str, list[str]] = field(default_factory=dict)
    canceled: list[str] = field(default_factory=list)
    card_reads: int = 0

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        message = context.message
        assert message is not None
        self.messages.append(MessageToDict(message))
        self.headers.append(context.call_context.state["headers"])
        word, _, rest = context.get_user_input().partition(" ")
        earlier = self.contexts.setdefault(context.context_id or "", [])
        earlier.append(context.get_user_input())
        if word == "message":
            await event_queue.enqueue_event(_said(context, rest))
            return
        if context.current_task is None:
            await event_queue.enqueue_event(new_task_from_user_message(message))
        assert context.task_id is not None
        assert context.context_id is not None
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        await updater.start_work(_said(context, "Working on it."))
        await self._work(word, rest, earlier, context, updater)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        self.canceled.append(context.task_id)
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()

    async def _work(
        self, word: str, rest: str, earlier: list[str], context: RequestContext, updater: TaskUpdater
    ) -> None:
        match word:
            case "artifacts" | "partly":
                await _stream(updater, rest)
            case "repeat":
                await _stream(updater, rest)
                await updater.add_artifact([new_text_part(rest)], artifact_id="text", append=False, last_chunk=True)
            case "call":
                url, label = rest.split(" ")
                given = {"duration": 0, "label": label}
                rest = await call_tool(url, "slow", given, context.call_context.state["headers"])
            case "raise":
                raise RuntimeError(SECRET)
            case "endless":
                await updater.add_artifact([new_text_part("First.")], artifact_id="text")
                await asyncio.Event().wait()
        state, text = {
            "earlier": (TaskState.TASK_STATE_COMPLETED, " | ".join(earlier)),
            "ask": (TaskState.TASK_STATE_INPUT_REQUIRED, rest),
            "fail": (TaskState.TASK_STATE_FAILED, SECRET),
            "partly": (TaskState.TASK_STATE_FAILED, SECRET),
            "reject": (TaskState.TASK_STATE_REJECTED, SECRET),
            "auth": (TaskState.TASK_STATE_AUTH_REQUIRED, SECRET),
        }.get(word, (TaskState.TASK_STATE_COMPLETED, f"{word} {rest}"))
        await updater.update_status(state, _said(context, text))


def _said(context: RequestContext, text: str) -> Message:
    return new_text_message(text, context_id=context.context_id, task_id=context.task_id)


async def _stream(updater: TaskUpdater, text: str) -> None:
    for number, word in enumerate(text.split(" ")):
        part = new_text_part(word if number == 0 else f" {word}")
        await updater.add_artifact([part], artifact_id="text", append=number > 0, last_chunk=False)
        await asyncio.sleep(0)


@dataclass
class RunningAgent:
    """An agent that serves at `url`, whose card names an address that cannot be reached."""

    url: str
    agent: Agent
    store: "_Store"

    def forget(self) -> None:
        """Lose all tasks, as at a restart."""
        self.store.forgotten = True


class _Store(InMemoryTaskStore):
    forgotten = False

    async def get(self, *arguments: Any, **more: Any) -> Any:
        return None if self.forgotten else await super().get(*arguments, **more)


def card(*, binding: str = "JSONRPC", version: str = "1.0", streaming: bool = True, path: str = "/a2a/v1") -> AgentCard:
    """Return a card with one interface, at an address that cannot be reached."""
    return AgentCard(
        name="words",
        description="Answers by the first word.",
        version="1",
        supported_interfaces=[
            AgentInterface(url=f"https://agents.invalid:8443{path}", protocol_binding=binding, protocol_version=version)
        ],
        capabilities=AgentCapabilities(streaming=streaming),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="words", name="words", description="Words", tags=["words"])],
    )


@contextmanager
def running_agent(
    published: AgentCard, *, path: str = "/a2a/v1", card_path: str = WELL_KNOWN
) -> Iterator[RunningAgent]:
    """Run an agent with this card, both bindings below `path`, in a thread of this process."""
    agent, store = Agent(), _Store()
    handler = DefaultRequestHandler(agent, store, published)
    routes: list[BaseRoute] = [
        Route(HEALTH, lambda _: Response()),
        *create_agent_card_routes(published, card_url=card_path),
        *create_jsonrpc_routes(handler, path, enable_v0_3_compat=True),
        *create_rest_routes(handler, enable_v0_3_compat=True, path_prefix=path),
    ]
    app = _counted(Starlette(routes=routes), agent, card_path)
    with running_app(app) as url:
        yield RunningAgent(url, agent, store)


@contextmanager
def running_app(app: ASGIApp) -> Iterator[str]:
    """Serve an app in a thread of this process, and yield its URL."""
    port = free_port()
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started, "the agent serves")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def _counted(app: Callable[[Scope, Receive, Send], Any], agent: Agent, card_path: str) -> ASGIApp:
    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and Request(scope).url.path == card_path:
            agent.card_reads += 1
        await app(scope, receive, send)

    return counted
