"""The Messages API of Anthropic: the agent answers as if it were a model."""
