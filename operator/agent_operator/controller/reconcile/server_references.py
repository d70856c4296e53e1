"""Resolves the references of tools to MCP servers: reads the objects, and puts their addresses into the spec."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.mcp import ServerRef
from agent_operator.api.tools import Tool
from agent_operator.controller.reconcile.server_address import VERSIONS, UnresolvedError, address_of
from agent_operator.controller.status.pod_problems import Problem
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

    `problems` are those of references that have none, and `stops` whether turns fail without one of these servers.
    """

    agent: AgentDeployment
    problems: Sequence[Problem] = ()
    stops: bool = False


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

    async def resolve(self, agent: AgentDeployment) -> Resolved:
        """Return the agent with the addresses of its references. Raises ApiError and UnreachableError."""
        if not refers(agent):
            return Resolved(agent)
        tools: list[Tool] = []
        problems: list[Problem] = []
        stops = False
        for tool in agent.spec.tools or []:
            try:
                tools.append(await self._resolved(tool, agent.namespace))
            except UnresolvedError as error:
                tools.append(tool)
                problems.append(Problem("ToolServerUnresolved", f"tools[{tool.name}].mcp.serverRef: {error}"))
                stops = stops or tool.on_unavailable == "fail"
        spec = agent.spec.model_copy(update={"tools": tools})
        return Resolved(replace(agent, spec=spec), problems, stops)

    async def _resolved(self, tool: Tool, namespace: str) -> Tool:
        if tool.mcp is None or tool.mcp.server_ref is None:
            return tool
        reference = tool.mcp.server_ref
        place = reference.namespace or namespace
        named = f"{reference.kind} {place}/{reference.name} ({reference.group})"
        entry = await self._read(reference, place)
        if entry.document is None:
            raise UnresolvedError(f"{named} {entry.error}")
        try:
            address = address_of(reference, entry.document, namespace)
        except UnresolvedError as error:
            raise UnresolvedError(f"{named} {error}") from None
        return tool.model_copy(update={"mcp": tool.mcp.model_copy(update={"url": address, "server_ref": None})})

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
