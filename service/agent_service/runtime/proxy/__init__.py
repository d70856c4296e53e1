"""The runtime's own HTTP application behind the agent: what is passed on, and how it is called."""
