"""The agent card: what another agent or a client reads before it calls this one. Pure.

Sources: the A2A specification 1.0, section 4.4, and the one of 0.3.0, section 5.5. One card has the fields of both.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from agent_service.agent.tools import Tool

RPC_PATH = "/a2a"
REST_PATH = "/a2a/v1"

_NO_DESCRIPTION = "An AI agent that answers messages."
# Cards are read by models as well: a tool's whole manual would be too much.
_LONGEST_DESCRIPTION = 1000

_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
INPUT_MODES = ("text/plain", *_IMAGES)
"""What a message may contain."""

_BEARER, _HEADER = "bearer", "header"
_ABOUT_KEYS = "One of the agent's client keys, or a token of its issuer."
# Each scheme in the form of 1.0, with the fields of 0.3 beside it.
_SCHEMES = {
    _BEARER: {
        "httpAuthSecurityScheme": {"scheme": "bearer", "description": _ABOUT_KEYS},
        "type": "http",
        "scheme": "bearer",
    },
    _HEADER: {
        "apiKeySecurityScheme": {"location": "header", "name": "X-API-Key", "description": _ABOUT_KEYS},
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
    },
}


@dataclass(frozen=True, slots=True)
class About:
    """The name and version of an agent and, if there is one, its description."""

    name: str
    version: str
    description: str | None = None


def card(about: About, base_url: str, tools: Iterable[Tool], *, needs_keys: bool) -> dict[str, Any]:
    """Return the card of the agent that is called at `base_url`, which has no slash at its end."""
    description = about.description or _NO_DESCRIPTION
    rpc, rest = base_url + RPC_PATH, base_url + REST_PATH
    found: dict[str, Any] = {
        "name": about.name,
        "description": description,
        "version": about.version,
        "supportedInterfaces": [
            _interface(url, binding, version)
            for version in ("1.0", "0.3")
            for url, binding in ((rpc, "JSONRPC"), (rest, "HTTP+JSON"))
        ],
        "capabilities": {"streaming": True, "pushNotifications": False, "extendedAgentCard": False},
        "defaultInputModes": list(INPUT_MODES),
        "defaultOutputModes": ["text/plain"],
        "skills": [_chat(description), *map(_skill, tools)],
        # The fields of 0.3.
        "protocolVersion": "0.3",
        "url": rpc,
        "preferredTransport": "JSONRPC",
        "additionalInterfaces": [{"url": rest, "transport": "HTTP+JSON"}],
    }
    if needs_keys:
        found["securitySchemes"] = _SCHEMES
        # Either of them is enough.
        found["securityRequirements"] = [{"schemes": {name: {"list": []}}} for name in _SCHEMES]
        found["security"] = [{name: []} for name in _SCHEMES]
    return found


def _interface(url: str, binding: str, version: str) -> dict[str, str]:
    return {"url": url, "protocolBinding": binding, "protocolVersion": version}


def _chat(description: str) -> dict[str, Any]:
    return {"id": "chat", "name": "Chat", "description": description, "tags": ["chat"]}


def _skill(tool: Tool) -> dict[str, Any]:
    description = tool.description.strip() or f"Calls the tool {tool.name}."
    if len(description) > _LONGEST_DESCRIPTION:
        description = description[: _LONGEST_DESCRIPTION - 1] + "…"
    return {"id": tool.name, "name": tool.name, "description": description, "tags": ["tool", tool.server]}
