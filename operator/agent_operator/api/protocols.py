"""The client protocols that an agent speaks besides its own API."""

from typing import Annotated, Any

from pydantic import Field

from agent_operator.api.base import Model
from agent_operator.api.rules import Rule

# The application protocol by which agentgateway recognizes A2A on the port of a Service.
A2A_PORT = "kgateway.dev/a2a"


class Protocols(Model):
    """Protocols of existing clients, besides the agent's own API."""

    rules = (
        Rule(
            cel="!has(self.clientTools) || !self.clientTools "
            "|| !has(self.openai) || self.openai || !has(self.anthropic) || self.anthropic",
            message="api.clientTools needs api.openai or api.anthropic, whose clients send tools: "
            "enable one, or remove api.clientTools",
            holds=lambda api: not api.client_tools or api.openai is not False or api.anthropic is not False,
            field="clientTools",
        ),
    )

    # Without defaults in the schema, so that earlier releases can read stored agents (decision 0029).
    openai: bool | None = None
    """Whether clients of the OpenAI API are served, under `/v1`. Defaults to true."""
    anthropic: bool | None = None
    """Whether clients of the Anthropic API are served, at `/v1/messages`. Defaults to true."""
    # The generated alias would be a2A.
    a2a: bool | None = Field(None, alias="a2a")
    """Whether A2A clients are served, with an agent card at `/.well-known/agent-card.json`. Everyone who can reach
    the agent can read the card. Defaults to true."""
    mcp: bool | None = None
    """Whether MCP clients are served, at `/mcp`, with the agent as one tool. Defaults to false."""
    client_tools: bool | None = None
    """Whether tools that a client of the OpenAI or Anthropic API sends are passed on to the model. The client runs
    them. Defaults to false: such requests are refused."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=67_108_864)] | None = None
    """Maximum size of a request of these protocols, in bytes. Defaults to 8388608."""
    max_input_tokens: Annotated[int, Field(ge=1, le=2_000_000)] | None = None
    """Maximum number of tokens that a client of these protocols may send in one request, estimated from its size.
    Defaults to 150000."""


def _passes_tools(api: Protocols | None) -> bool:
    return api is not None and bool(api.client_tools)


def _protocol(runtime: Any) -> str | None:
    return None if runtime is None else runtime.protocol


SPEC_RULES = (
    Rule(
        cel="!has(self.api) || !has(self.runtime) || self.runtime.protocol != 'http'",
        message="api has no effect with runtime.protocol http, as all paths are the runtime's own: remove api",
        holds=lambda spec: spec.api is None or _protocol(spec.runtime) != "http",
        field="api",
    ),
    Rule(
        cel="!has(self.api) || !has(self.api.clientTools) || !self.api.clientTools || !has(self.runtime)",
        message="api.clientTools needs the built-in agent, as a runtime is not given a client's tools: "
        "remove api.clientTools",
        holds=lambda spec: not _passes_tools(spec.api) or spec.runtime is None,
        field="api",
    ),
)
"""Rules of a whole spec that has client protocols."""
