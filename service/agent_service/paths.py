"""The paths that do not count as work, and the paths that need no key."""

# The paths of the probes.
HEALTH = frozenset({"/health", "/health/live", "/health/ready"})

# Probes and scrapes: always answered, never counted as work, never limited.
PROBES = HEALTH | {"/metrics"}

# Paths that a user opens to learn about the service. They contain no user data.
_OPEN = PROBES | {"/", "/docs", "/openapi.json"}
_OPEN_FOLDERS = ("/page/", "/docs/")

# Paths that call the model while the client waits. A task waits in the queue instead.
_ASK_THE_MODEL = frozenset({"/chat", "/chat/stream"})


def is_limited(path: str) -> bool:
    """Return whether a request counts against its client's limit.

    The files of a page do not count, because a browser requests several at once.
    """
    return path not in PROBES and not path.startswith(_OPEN_FOLDERS)


def is_open(path: str) -> bool:
    """Return whether a path is answered without a key."""
    return path in _OPEN or path.startswith(_OPEN_FOLDERS)


def asks_the_model(method: str, path: str) -> bool:
    """Return whether a request uses tokens while it is answered."""
    return method == "POST" and path in _ASK_THE_MODEL
