"""The settings of the service: their names, their bounds, and where they come from."""
