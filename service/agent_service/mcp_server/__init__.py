"""What the agent's two MCP servers share: the gateway's, for the runtime, and the one for clients."""
