"""A turn with the model. Nothing in here depends on the HTTP interface for our own clients."""
