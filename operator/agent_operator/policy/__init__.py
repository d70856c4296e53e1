"""What an operator refuses in a spec: settings, one table of checks, and its two readers (Python and CEL)."""
