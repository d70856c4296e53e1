"""Names that the objects of an agent share. The objects themselves have the agent's name, some with a suffix."""

CONTAINER = "agent"
PORT_NAME = "http"
CONTAINER_PORT = 8000
# Separate from the API's port, so that no Ingress, route or load balancer exposes it.
METRICS_PORT_NAME = "metrics"
METRICS_PORT = 9090
METRICS_PATH = "/metrics"
# On loopback only: the model API for a runtime.
GATEWAY_PORT = 8089

SECRETS_VOLUME = "secrets"
SECRETS_DIR = "/etc/portside/secrets"

ANNOTATION_PREFIX = "portside.dev"
CONFIG_CHECKSUM = f"{ANNOTATION_PREFIX}/config-checksum"


def keda_autoscaler_name(scaled_object: str) -> str:
    """Return the name of the autoscaler that KEDA creates for a ScaledObject (KEDA: controllers/keda/hpa.go)."""
    return f"keda-hpa-{scaled_object}"


def tools_name(agent: str) -> str:
    """Return the name of the ConfigMap with the agent's tools."""
    return f"{agent}-tools"


def worker_name(agent: str) -> str:
    """Return the name of the objects that belong to the workers."""
    return f"{agent}-worker"
