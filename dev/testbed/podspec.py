"""What the pods of the test bed ask of the node."""

from typing import Any

# A pod without requests (BestEffort) is starved by those that have some, and killed first when memory runs out. CPU is
# little, so that the pods of a whole tier fit on two cores, but ten times the share that no request comes to.
RESOURCES: dict[str, Any] = {"requests": {"cpu": "20m", "memory": "128Mi"}}
# A model API that all agents of the tests ask at once.
BUSY_RESOURCES: dict[str, Any] = {"requests": {"cpu": "100m", "memory": "256Mi"}}
