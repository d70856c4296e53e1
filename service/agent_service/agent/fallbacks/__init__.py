"""Providers that are asked in order, so that an outage of one does not end the agent's answers."""
