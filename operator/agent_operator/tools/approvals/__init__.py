"""Decisions on tool calls that wait for an approval."""
