"""The Kubernetes objects of an agent, built only from its spec: no I/O, and the same objects for the same input.

There is one module per kind. The chart `helm/agent` renders the same objects; tests compare the two on generated specs.
"""

from agent_operator.manifests.desired import desired

__all__ = ["desired"]
