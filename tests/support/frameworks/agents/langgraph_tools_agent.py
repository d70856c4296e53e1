"""A LangGraph agent with the agent's tools, behind Amazon's AgentCore app."""

import os

from bedrock_agentcore import BedrockAgentCoreApp
from langchain_anthropic import ChatAnthropic
from langchain_mcp_adapters.client import MultiServerMCPClient
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

app = BedrockAgentCoreApp()
model = ChatAnthropic(model=os.environ["ANTHROPIC_MODEL"], max_tokens=500, max_retries=0)
ATTRIBUTION = ("baggage", "traceparent")


@app.entrypoint
async def invoke(payload, context):
    headers = {name: context.request.headers[name] for name in ATTRIBUTION}
    server = {"transport": "streamable_http", "url": os.environ["PORTSIDE_MCP_URL"], "headers": headers}
    tools = await MultiServerMCPClient({"portside": server}).get_tools()

    async def call(state: MessagesState):
        return {"messages": [await model.bind_tools(tools).ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("call", call).add_node("tools", ToolNode(tools))
    graph.add_edge(START, "call").add_conditional_edges("call", tools_condition).add_edge("tools", "call")
    answer = await graph.compile().ainvoke({"messages": payload["messages"]})
    return answer["messages"][-1].text


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), host="0.0.0.0")
