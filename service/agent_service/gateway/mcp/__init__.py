"""The agent's tools as one MCP server for the runtime. Only an agent with tools and a gateway imports this package."""
