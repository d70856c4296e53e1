"""Conversations: a message, its answer, and the earlier exchanges."""
