"""A Claude Agent SDK agent behind Amazon's AgentCore app."""

import os

from bedrock_agentcore import BedrockAgentCoreApp
from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, TextBlock, query

app = BedrockAgentCoreApp()


@app.entrypoint
async def invoke(payload):
    options = ClaudeAgentOptions(allowed_tools=[], max_turns=1)
    async for message in query(prompt=payload["prompt"], options=options):
        if isinstance(message, AssistantMessage):
            for block in message.content:
                if isinstance(block, TextBlock):
                    yield block.text


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), host="0.0.0.0")
