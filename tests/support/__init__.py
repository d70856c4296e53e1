"""What the tests of several tiers share: servers that they start, programs that they run, and how they wait."""
