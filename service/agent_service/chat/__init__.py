"""Conversations: a message, its answer, and what was said before."""
