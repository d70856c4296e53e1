"""A2A, versions 1.0 and 0.3: the agent as a peer of other agents."""
