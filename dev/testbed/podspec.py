"""The resources that the pods of the test bed request from the node."""

from typing import Any

# A pod without requests (BestEffort) is starved by pods that have some, and killed first when memory runs out. The CPU
# request is small, so that the pods of a whole tier fit on two cores, but ten times the share of a pod without one.
RESOURCES: dict[str, Any] = {"requests": {"cpu": "20m", "memory": "128Mi"}}
# For a model API that all agents of the tests call at once.
BUSY_RESOURCES: dict[str, Any] = {"requests": {"cpu": "100m", "memory": "256Mi"}}
