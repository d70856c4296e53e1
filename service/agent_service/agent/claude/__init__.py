"""The provider that calls the Anthropic Messages API: the only code that knows it."""
