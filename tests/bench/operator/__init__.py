"""The throughput of the operator, compared with the limit of the same API server: `make bench-operator`."""
