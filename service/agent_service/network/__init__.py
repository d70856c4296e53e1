"""Addresses, proxies, event streams, and the errors of connections. Pure."""
