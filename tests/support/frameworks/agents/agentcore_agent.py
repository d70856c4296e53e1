"""An agent for Amazon Bedrock AgentCore that streams the model's text."""

import os

from anthropic import AsyncAnthropic
from bedrock_agentcore import BedrockAgentCoreApp

app = BedrockAgentCoreApp()
model = AsyncAnthropic()


@app.entrypoint
async def invoke(payload):
    async with model.messages.stream(
        model=os.environ["ANTHROPIC_MODEL"], max_tokens=500, messages=[{"role": "user", "content": payload["prompt"]}]
    ) as stream:
        async for text in stream.text_stream:
            yield text


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), host="0.0.0.0")
