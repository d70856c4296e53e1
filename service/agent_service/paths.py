"""Which paths are no work, and which need no key."""

# What probes ask for.
HEALTH = frozenset({"/health", "/health/live", "/health/ready"})

# Probes and scrapes: always answered, never counted as work, never limited.
PROBES = HEALTH | {"/metrics"}

# What a person opens to learn about the service, and holds nothing of anybody's.
_OPEN = PROBES | {"/", "/docs", "/openapi.json"}
_OPEN_FOLDERS = ("/page/", "/docs/")

# What asks the model while the client waits. A task waits in the queue instead.
_ASK_THE_MODEL = frozenset({"/chat", "/chat/stream"})


def is_limited(path: str) -> bool:
    """Whether a request counts against its client's limit: the files of a page come several at a time."""
    return path not in PROBES and not path.startswith(_OPEN_FOLDERS)


def is_open(path: str) -> bool:
    """Whether a path is answered to those who show no key."""
    return path in _OPEN or path.startswith(_OPEN_FOLDERS)


def asks_the_model(method: str, path: str) -> bool:
    """Whether a request takes tokens while it is answered."""
    return method == "POST" and path in _ASK_THE_MODEL
