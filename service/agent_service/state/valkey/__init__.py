"""The embedded Valkey server, for where no Redis is configured."""
