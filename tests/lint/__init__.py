"""Linters over what users get: charts, manifests, samples, the Dockerfile, the workflows.

`python -m lint` runs all of them. A finding makes it exit with code 1; an accepted finding needs a reason: those of
Checkov in `accepted.yaml`, others in a comment where they occur.
"""
