"""Tools of MCP servers: their connections, their lists, and calls.

Only an agent with TOOLS_FILE imports this package: the MCP SDK takes memory and time.
"""
