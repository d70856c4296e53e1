"""How fast the operator is, beside the raw limit of the same API server: `make bench-operator`."""
