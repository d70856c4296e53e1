"""Pods on a node: images, operator, charts, and the commands of the documents."""
