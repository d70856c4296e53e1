"""The protocol of OpenAI's clients: chat completions, responses and models."""
