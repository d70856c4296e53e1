"""The tools of a Python file: its functions with `@tool`, served as an MCP server."""
