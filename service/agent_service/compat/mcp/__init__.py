"""The agent as a tool of MCP clients (`/mcp`). Only an agent with API_MCP imports this package."""
