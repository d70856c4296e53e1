"""Google Vertex AI: the only code that depends on its API and on Google's credentials."""
