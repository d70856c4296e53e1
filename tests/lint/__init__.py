"""Linters over what people are handed: charts, manifests, samples, the Dockerfile, the workflows.

`python -m lint` runs all of them. A finding ends it with exit code 1; one that is not followed is argued for: those of
Checkov in `accepted.yaml`, others in a comment at the place.
"""
