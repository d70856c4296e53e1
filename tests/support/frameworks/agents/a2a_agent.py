"""An A2A agent written with the official SDK."""

import os

import uvicorn
from a2a.helpers import new_task_from_user_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Part
from anthropic import AsyncAnthropic
from starlette.applications import Starlette

model = AsyncAnthropic()


class Executor(AgentExecutor):
    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        task = context.current_task or new_task_from_user_message(context.message)
        if context.current_task is None:
            await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        first = True
        async with model.messages.stream(
            model=os.environ["ANTHROPIC_MODEL"],
            max_tokens=500,
            messages=[{"role": "user", "content": context.get_user_input()}],
        ) as stream:
            async for text in stream.text_stream:
                await updater.add_artifact([Part(text=text)], artifact_id="answer", append=not first, last_chunk=False)
                first = False
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


port = int(os.environ["PORT"])
card = AgentCard(
    name="a2a_agent",
    description="Answers questions.",
    version="1.0.0",
    supported_interfaces=[
        AgentInterface(url=f"http://localhost:{port}/", protocol_binding="JSONRPC", protocol_version="1.0")
    ],
    capabilities=AgentCapabilities(streaming=True),
    default_input_modes=["text"],
    default_output_modes=["text"],
    skills=[AgentSkill(id="answer", name="Answer", description="Answers.", tags=["answer"])],
)
handler = DefaultRequestHandler(agent_executor=Executor(), task_store=InMemoryTaskStore(), agent_card=card)
app = Starlette(routes=[*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/")])

if __name__ == "__main__":
    uvicorn.run(app, host="0.0.0.0", port=port)
