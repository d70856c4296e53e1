"""What helps people and CI to work with agents: render, validate, diff, doctor. Nothing here writes to a cluster."""
