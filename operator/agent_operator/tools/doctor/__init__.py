"""`agent-operator doctor`: why an agent is not ready. Evidence is gathered first, then judged by pure functions."""
