"""Agent cards of A2A: which of an agent's interfaces is called, and how.

Sources: the A2A specification 1.0, sections 4.4 (card), 5.3 (JSON-RPC and HTTP+JSON) and 8 (discovery), and the one
of 0.3.0, section 5.5. A card of 0.3 has `url`, `preferredTransport` and `additionalInterfaces`; one of 1.0 has
`supportedInterfaces`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from agent_service.agent.errors import ModelFailedError
from agent_service.runtime import errors

WELL_KNOWN = ("/.well-known/agent-card.json", "/.well-known/agent.json")
"""Where a card is published: since 0.3, and before."""

JSONRPC = "JSONRPC"
REST = "HTTP+JSON"
# Names of bindings, as cards have them, with ours.
_BINDINGS = {"JSONRPC": JSONRPC, "HTTP+JSON": REST, "HTTP_JSON": REST, "REST": REST}


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface of an agent: its path (with a query, if any), the binding, and the version of the protocol.

    `legacy` is true for 0.3 and 0.2, whose methods and objects have other names. `tenant` is sent back as it is.
    """

    path: str
    binding: str = JSONRPC
    legacy: bool = False
    tenant: str | None = None
    streaming: bool = False

    @property
    def version(self) -> str:
        """The version of the protocol, as the header `A2A-Version` has it."""
        return "0.3" if self.legacy else "1.0"

    @property
    def label(self) -> str:
        """The interface in words, for a health check."""
        return f"A2A {self.version} over {self.binding}, {'streamed' if self.streaming else 'not streamed'}"


def choose(card: object, *, path: str | None = None) -> Interface:
    """Return the interface of the card that is called: 1.0 before 0.3, then JSON-RPC before HTTP+JSON.

    Cards name the public URL of the agent, which need not be reachable from here. Only its path is taken, or `path`.
    Raises ModelFailedError if the card is not one, or has no interface that can be called (gRPC only, for example).
    """
    if not isinstance(card, dict):
        raise errors.unreadable("has no agent card: the card is not a JSON object")
    capabilities = card.get("capabilities")
    streaming = isinstance(capabilities, dict) and capabilities.get("streaming") is True
    found = [
        Interface(path or at, binding, legacy, tenant, streaming) for at, binding, legacy, tenant in _interfaces(card)
    ]
    if not found:
        raise ModelFailedError(
            "The agent card of the agent's runtime has no interface that can be called: needed is A2A 1.0 or 0.3, "
            "over JSON-RPC or HTTP+JSON.",
            kind="protocol",
        )
    return min(found, key=lambda interface: (interface.legacy, interface.binding != JSONRPC))


def _interfaces(card: dict[str, Any]) -> Iterator[tuple[str, str, bool, str | None]]:
    """Yield path, binding, whether the version is 0.x, and tenant of every interface that can be called."""
    for entry in _objects(card.get("supportedInterfaces")):
        yield from _usable(
            entry.get("url"), entry.get("protocolBinding"), entry.get("protocolVersion", "1.0"), entry.get("tenant")
        )
    # The version of a 0.2 card may be absent. A 1.0 card can have these fields too, for clients of 0.3.
    version = card.get("protocolVersion", "0.3")
    yield from _usable(card.get("url"), card.get("preferredTransport") or JSONRPC, version, None)
    for entry in _objects(card.get("additionalInterfaces")):
        yield from _usable(entry.get("url"), entry.get("transport"), version, None)


def _usable(
    url: object, binding: object, version: object, tenant: object
) -> Iterator[tuple[str, str, bool, str | None]]:
    name = _BINDINGS.get(binding.upper()) if isinstance(binding, str) else None
    major, _, minor = version.partition(".") if isinstance(version, str) else ("", "", "")
    legacy = major == "0" and minor.partition(".")[0] in {"2", "3"}
    if name is None or not isinstance(url, str) or not url or not (legacy or major == "1"):
        return
    yield _path(url), name, legacy, tenant if isinstance(tenant, str) and tenant else None


def _path(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "/"
    path = parts.path if parts.path.startswith("/") else f"/{parts.path}"
    return f"{path}?{parts.query}" if parts.query else path


def _objects(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
