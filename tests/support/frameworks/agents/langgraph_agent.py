"""A LangGraph agent with a tool, behind Amazon's AgentCore app."""

import os

from bedrock_agentcore import BedrockAgentCoreApp
from langchain_anthropic import ChatAnthropic
from langgraph.graph import START, MessagesState, StateGraph

app = BedrockAgentCoreApp()
model = ChatAnthropic(model=os.environ["ANTHROPIC_MODEL"], max_tokens=500)


async def call(state: MessagesState):
    return {"messages": [await model.ainvoke(state["messages"])]}


graph = StateGraph(MessagesState).add_node("call", call).add_edge(START, "call").compile()


@app.entrypoint
async def invoke(payload):
    async for chunk, _ in graph.astream({"messages": payload["messages"]}, stream_mode="messages"):
        yield chunk.text if isinstance(chunk.text, str) else chunk.text()


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), host="0.0.0.0")
