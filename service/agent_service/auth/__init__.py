"""The identity of the client of a request: by a key, by a token, or else by its address."""
