"""The embedded Valkey server, which is used when no Redis is configured."""
