"""The paths that do not count as work, and the paths that need no key."""

from dataclasses import dataclass

# The paths of the probes.
HEALTH = frozenset({"/health", "/health/live", "/health/ready"})

# Probes and scrapes: always answered, never counted as work, never limited.
PROBES = HEALTH | {"/metrics"}

_DOCS = frozenset({"/docs", "/openapi.json"})

# Paths that call the model while the client waits. A task waits in the queue instead.
_ASK_THE_MODEL = frozenset({"/chat", "/chat/stream"})

MCP = "/mcp"
"""The MCP server."""

# The protocols of other clients, by their paths and folders.
_PROTOCOLS = {
    "/v1/chat/completions": "openai",
    "/v1/responses": "openai",
    "/v1/models": "openai",
    "/v1/messages": "anthropic",
    "/a2a/v1": "a2a_rest",
    "/a2a": "a2a",
    MCP: "mcp",
}

# Those of their paths that call the model while the client waits. The tool of MCP checks the limits itself, because its
# path also answers what needs no tokens; what A2A accepts waits in the queue.
_PROTOCOLS_ASK = frozenset({"/v1/chat/completions", "/v1/responses", "/v1/messages"})

A2A_CARD = "/.well-known/agent-card.json"
"""The description of the agent for A2A clients (A2A 1.0, 8.2), which needs no key."""

PROTECTED_RESOURCE = "/.well-known/oauth-protected-resource"
"""The description of the agent for OAuth clients (RFC 9728, 3), which needs no key; that of a path is below it."""

# Paths of the agent that a runtime with the protocol `http` cannot have, with everything below the folders.
_RESERVED = HEALTH | _DOCS | _ASK_THE_MODEL | {"/tasks"}
_RESERVED_FOLDERS = ("/tasks/", "/docs/")


@dataclass(frozen=True, slots=True)
class Paths:
    """Which paths of an app are free of keys and limits, and which belong to the agent itself.

    `probes` are always answered. `open` and everything below `open_folders` need no key: a user opens them to learn
    about the service, and they contain no user data. `has_protocols` is whether it answers in the protocols of other
    clients.
    """

    probes: frozenset[str]
    open: frozenset[str]
    open_folders: tuple[str, ...]
    has_protocols: bool = True

    def protocol(self, path: str) -> str | None:
        """Return the protocol of other clients that a path belongs to, by its name in `compat/error_forms.py`."""
        if not self.has_protocols:
            return None
        return next((name for known, name in _PROTOCOLS.items() if path == known or path.startswith(f"{known}/")), None)

    def asks_the_model(self, method: str, path: str) -> bool:
        """Return whether a request uses tokens while it is answered."""
        if method != "POST":
            return False
        if path in _ASK_THE_MODEL or (path.startswith("/chat/") and path.endswith("/approvals")):
            return True
        return self.has_protocols and path in _PROTOCOLS_ASK

    def accepts_tasks(self, method: str, path: str) -> bool:
        """Return whether a request is a task, which uses tokens later."""
        return method == "POST" and path == "/tasks"

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


AGENT = Paths(
    probes=PROBES,
    open=PROBES | _DOCS | {"/", A2A_CARD, PROTECTED_RESOURCE, f"{PROTECTED_RESOURCE}{MCP}"},
    open_folders=("/page/", "/docs/"),
)
"""The paths of an agent that answers by itself."""


def beside_runtime(*, shows_metrics: bool) -> Paths:
    """Return the paths of an agent in front of a runtime with the protocol `http`, which has `/` and all the rest."""
    probes = PROBES if shows_metrics else HEALTH
    return Paths(probes=probes, open=probes | _DOCS, open_folders=("/docs/",), has_protocols=False)
