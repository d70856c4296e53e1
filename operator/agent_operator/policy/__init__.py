"""What of a spec an operator refuses: settings, one table of checks, and its two readers (Python, and CEL)."""
