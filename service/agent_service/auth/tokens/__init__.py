"""Clients with tokens (JWT) of an issuer. Only an agent with JWT_FILE imports this package: it takes memory."""
