"""Resolves the references of tools to MCP servers: reads the objects, and puts their addresses into the spec."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.mcp import ServerRef
from agent_operator.api.tools import Tool
from agent_operator.controller.reconcile.server_address import VERSIONS, UnresolvedError, address_of
from agent_operator.controller.status.pod_problems import Problem
from agent_operator.controller.status.tool_lists import Address, addresses_in
from agent_operator.kube.errors import ApiError
from agent_operator.kube.reader import Reader
from agent_operator.manifests.document import Document

# The objects belong to other products, which a cluster may lack, so they are read and not watched. While an agent's
# objects change it is reconciled many times a second: one read serves all of these.
FRESH_SECONDS = 5.0
# Seconds until an agent's references are read again.
FOLLOW_SECONDS = 60.0
RETRY_SECONDS = 10.0


@dataclass(frozen=True)
class Resolved:
    """An agent whose references are replaced by addresses, except those that have none.

    `problems` are those of references whose object has none, and `stops` whether turns fail without one of these
    servers. `addresses` are those in use, by the name of the tool.
    """

    agent: AgentDeployment
    problems: Sequence[Problem] = ()
    stops: bool = False
    addresses: Mapping[str, Address] = field(default_factory=dict)


@dataclass(frozen=True)
class _Entry:
    document: Document | None
    error: str
    at: float


class References:
    """Reads the objects that references name, and remembers each for a moment."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._entries: dict[tuple[str, str, str, str], _Entry] = {}

    async def resolve(self, agent: AgentDeployment, status: Mapping[str, Any]) -> Resolved:
        """Return the agent with the addresses of its references. Raises ApiError and UnreachableError.

        While the object of a reference cannot be read, the address that the agent's `status` has of it stays in use:
        the server itself may well be there, and its pods need not be replaced.
        """
        if not refers(agent):
            return Resolved(agent)
        tools: list[Tool] = []
        problems: list[Problem] = []
        stops = False
        last, addresses = addresses_in(status), dict[str, Address]()
        for tool in agent.spec.tools or []:
            if tool.mcp is None or tool.mcp.server_ref is None:
                tools.append(tool)
                continue
            address, error = await self._address(tool.mcp.server_ref, agent.namespace, last.get(tool.name))
            if error:
                problems.append(Problem("ToolServerUnresolved", f"tools[{tool.name}].mcp.serverRef: {error}"))
            if address is None:
                tools.append(tool)
                stops = stops or tool.on_unavailable == "fail"
            else:
                addresses[tool.name] = address
                mcp = tool.mcp.model_copy(update={"url": address.url, "server_ref": None})
                tools.append(tool.model_copy(update={"mcp": mcp}))
        spec = agent.spec.model_copy(update={"tools": tools})
        return Resolved(replace(agent, spec=spec), problems, stops, addresses)

    async def _address(self, reference: ServerRef, namespace: str, last: Address | None) -> tuple[Address | None, str]:
        """Return the address of a reference, the `last` one if it is of the same object; and what prevents it."""
        place = reference.namespace or namespace
        named = f"{reference.kind} {place}/{reference.name} ({reference.group})"
        entry = await self._read(reference, place)
        if entry.document is None and last is not None and last.reference == named:
            return last, f"{named} {entry.error}. Until then, its last address stays in use ({last.url})"
        if entry.document is None:
            return None, f"{named} {entry.error}"
        try:
            return Address(named, address_of(reference, entry.document, namespace)), ""
        except UnresolvedError as error:
            return None, f"{named} {error}"

    async def _read(self, reference: ServerRef, namespace: str) -> _Entry:
        key = (reference.group, reference.kind, namespace, reference.name)
        now = time.monotonic()
        self._entries = {each: entry for each, entry in self._entries.items() if now - entry.at < FRESH_SECONDS}
        if key not in self._entries:
            document, error = await self._get(reference, namespace)
            self._entries[key] = _Entry(document, error, now)
        return self._entries[key]

    async def _get(self, reference: ServerRef, namespace: str) -> tuple[Document | None, str]:
        """Return the object; or None, and why there is none."""
        versions = VERSIONS[reference.group, reference.kind]
        try:
            for resource in versions:
                document = await self._reader.get(resource, namespace, reference.name)
                if document is not None:
                    return document, ""
            served = [await self._reader.is_served(resource) for resource in versions]
        except ApiError as error:
            if error.code != HTTPStatus.FORBIDDEN:
                raise
            return None, (
                f"may not be read by the operator: grant it get of {versions[0].plural}.{reference.group} there, or "
                "write mcp.url"
            )
        if not any(served):
            return None, "is of a kind that the cluster does not have: install its product, or write mcp.url"
        return None, "does not exist: create it, or correct the reference"


def refers(agent: AgentDeployment) -> bool:
    """Return whether a tool of the agent refers to a server. An agent whose references are resolved does not."""
    return any(tool.mcp is not None and tool.mcp.server_ref is not None for tool in agent.spec.tools or [])
