"""Keeps the objects of every `AgentDeployment` as its spec says: wakes, gathers, decides, applies, tells."""
