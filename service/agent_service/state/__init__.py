"""Everything that outlives a request, in a server that speaks the Redis protocol."""
