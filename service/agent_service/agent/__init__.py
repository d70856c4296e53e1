"""A turn with the model: nothing in here knows of HTTP towards our own clients."""
