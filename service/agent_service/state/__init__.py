"""All state that outlives a request, stored in a server with the Redis protocol."""
