"""A Claude Agent SDK agent with the agent's tools, behind Amazon's AgentCore app."""

import os

from bedrock_agentcore import BedrockAgentCoreApp
from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, TextBlock, query

app = BedrockAgentCoreApp()
ATTRIBUTION = ("baggage", "traceparent")


@app.entrypoint
async def invoke(payload, context):
    headers = {name: context.request.headers[name] for name in ATTRIBUTION}
    options = ClaudeAgentOptions(
        mcp_servers={"portside": {"type": "http", "url": os.environ["PORTSIDE_MCP_URL"], "headers": headers}},
        # The tools of that server, and none of the program's own.
        allowed_tools=["mcp__portside"],
        tools=[],
        max_turns=5,
    )
    async for message in query(prompt=payload["prompt"], options=options):
        if isinstance(message, AssistantMessage):
            for block in message.content:
                if isinstance(block, TextBlock):
                    yield block.text


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), host="0.0.0.0")
