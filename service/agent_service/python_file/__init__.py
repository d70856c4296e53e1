"""A Python file as an agent: its function `answer`, served by the protocol `invocations`, or its tools, by MCP."""
