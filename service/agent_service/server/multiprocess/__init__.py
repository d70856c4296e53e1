"""Several API processes on one port (API_WORKERS)."""
