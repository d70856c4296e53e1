"""`agent-operator doctor`: why an agent is not ready. Evidence is gathered first, then evaluated by pure functions."""
