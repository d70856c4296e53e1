"""The checks behind `/health`."""
