"""The provider for the Anthropic Messages API: the only code that depends on this API."""
