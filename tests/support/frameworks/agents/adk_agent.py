"""A Google ADK agent, served by ADK's own A2A server."""

import os

import uvicorn
from google.adk.a2a.utils.agent_to_a2a import to_a2a
from google.adk.agents import Agent
from google.adk.models.anthropic_llm import AnthropicLlm

agent = Agent(
    name="adk_agent",
    model=AnthropicLlm(model=os.environ["ANTHROPIC_MODEL"]),
    description="Answers questions.",
    instruction="Answer briefly.",
)
app = to_a2a(agent, port=int(os.environ["PORT"]))

if __name__ == "__main__":
    uvicorn.run(app, host="0.0.0.0", port=int(os.environ["PORT"]))
