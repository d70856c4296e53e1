"""Tools for users and CI: render, validate, diff, doctor, logs, import. None of them writes to a cluster."""
