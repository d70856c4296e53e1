"""`kubectl agent keys`: the client keys of an agent."""
