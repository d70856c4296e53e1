"""The runtime: the user's own agent in a container beside this one, and the protocols in which it is called."""
