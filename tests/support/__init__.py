"""Helpers shared by the tests of several tiers: servers that they start, programs that they run, and waiting."""
