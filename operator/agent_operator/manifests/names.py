"""Names that the objects of an agent share. The objects themselves all bear the agent's name."""

CONTAINER = "agent"
PORT_NAME = "http"
CONTAINER_PORT = 8000

SECRETS_VOLUME = "secrets"
SECRETS_DIR = "/etc/portside/secrets"

ANNOTATION_PREFIX = "portside.dev"
CONFIG_CHECKSUM = f"{ANNOTATION_PREFIX}/config-checksum"
