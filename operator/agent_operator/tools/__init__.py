"""Tools for users and CI: render, validate, diff, doctor. None of them writes to a cluster."""
