"""The settings of the service: their names, bounds and sources."""
