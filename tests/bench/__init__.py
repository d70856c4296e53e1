"""The throughput and latency of the agent API, compared with a baseline and a peer: `python -m bench --help`."""
