"""The status of an agent, from what was observed. Pure."""
