"""Rate limits and the budget."""
