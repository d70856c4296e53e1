"""How fast the agent API is, beside what it is measured against: `python -m bench --help`."""
