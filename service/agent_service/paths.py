"""The paths that do not count as work, and the paths that need no key."""

from dataclasses import dataclass

# The paths of the probes.
HEALTH = frozenset({"/health", "/health/live", "/health/ready"})

# Probes and scrapes: always answered, never counted as work, never limited.
PROBES = HEALTH | {"/metrics"}

_DOCS = frozenset({"/docs", "/openapi.json"})

# Paths that call the model while the client waits. A task waits in the queue instead.
_ASK_THE_MODEL = frozenset({"/chat", "/chat/stream"})

# Paths of the agent that a runtime with the protocol `http` cannot have, with everything below the folders.
_RESERVED = HEALTH | _DOCS | _ASK_THE_MODEL | {"/tasks"}
_RESERVED_FOLDERS = ("/tasks/", "/docs/")


@dataclass(frozen=True, slots=True)
class Paths:
    """Which paths of an app are free of keys and limits, and which belong to the agent itself.

    `probes` are always answered. `open` and everything below `open_folders` need no key: a user opens them to learn
    about the service, and they contain no user data.
    """

    probes: frozenset[str]
    open: frozenset[str]
    open_folders: tuple[str, ...]

    def is_limited(self, path: str) -> bool:
        """Return whether a request counts against its client's limit.

        The files of a page do not count, because a browser requests several at once.
        """
        return path not in self.probes and not path.startswith(self.open_folders)

    def is_open(self, path: str) -> bool:
        """Return whether a path is answered without a key."""
        return path in self.open or path.startswith(self.open_folders)

    def is_reserved(self, path: str) -> bool:
        """Return whether a runtime with the protocol `http` cannot have the path, because it is the agent's own."""
        return path in _RESERVED or path in self.probes or path.startswith(_RESERVED_FOLDERS)


AGENT = Paths(probes=PROBES, open=PROBES | _DOCS | {"/"}, open_folders=("/page/", "/docs/"))
"""The paths of an agent that answers by itself."""


def beside_runtime(*, shows_metrics: bool) -> Paths:
    """Return the paths of an agent in front of a runtime with the protocol `http`, which has `/` and all the rest."""
    probes = PROBES if shows_metrics else HEALTH
    return Paths(probes=probes, open=probes | _DOCS, open_folders=("/docs/",))


def asks_the_model(method: str, path: str) -> bool:
    """Return whether a request uses tokens while it is answered."""
    if method != "POST":
        return False
    return path in _ASK_THE_MODEL or (path.startswith("/chat/") and path.endswith("/approvals"))
