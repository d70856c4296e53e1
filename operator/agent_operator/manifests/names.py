"""Names that the objects of an agent share. The objects themselves bear the agent's name, some with a suffix."""

CONTAINER = "agent"
PORT_NAME = "http"
CONTAINER_PORT = 8000
# Apart from the API's, so that no Ingress, route or load balancer leads there.
METRICS_PORT_NAME = "metrics"
METRICS_PORT = 9090
METRICS_PATH = "/metrics"

SECRETS_VOLUME = "secrets"
SECRETS_DIR = "/etc/portside/secrets"

ANNOTATION_PREFIX = "portside.dev"
CONFIG_CHECKSUM = f"{ANNOTATION_PREFIX}/config-checksum"


def keda_autoscaler_name(scaled_object: str) -> str:
    """The name of the HorizontalPodAutoscaler that KEDA makes of a ScaledObject (its controllers/keda/hpa.go)."""
    return f"keda-hpa-{scaled_object}"


def worker_name(agent: str) -> str:
    """The name of what the workers have of their own."""
    return f"{agent}-worker"
