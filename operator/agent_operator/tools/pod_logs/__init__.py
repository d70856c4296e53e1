"""`kubectl agent logs`: the logs of all containers of an agent, in one stream ordered by time."""
