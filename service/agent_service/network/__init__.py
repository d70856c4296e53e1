"""Addresses, proxies and the errors of connections. Pure."""
