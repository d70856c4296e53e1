"""Repeats the timing-sensitive tests on a machine that has other work."""
