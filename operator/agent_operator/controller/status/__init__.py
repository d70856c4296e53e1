"""The status of an agent, computed from what was observed. Pure."""
