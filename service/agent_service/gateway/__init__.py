"""The gateway: the model API on loopback for the user's own container, without its key."""
