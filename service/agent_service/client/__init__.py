"""A client that sends one question to a running agent, in any of its protocols."""
