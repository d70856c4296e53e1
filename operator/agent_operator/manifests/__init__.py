"""The Kubernetes objects of an agent, built from its spec alone: no I/O, the same input gives the same objects.

One module a kind. The chart `helm/agent` makes the same objects; tests compare the two over generated specs.
"""

from agent_operator.manifests.desired import desired

__all__ = ["desired"]
