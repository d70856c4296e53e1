"""The control plane alone: chart and operator against a real API server, without pods."""
