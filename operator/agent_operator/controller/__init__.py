"""Keeps the objects of every `AgentDeployment` as specified: watch, gather, decide, apply, publish."""
