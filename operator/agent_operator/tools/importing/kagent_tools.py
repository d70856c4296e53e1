"""Tools of an agent from those of kagent's Agent: a reference to each MCP server, with the names that it may call."""

import math
import re
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from agent_operator.api.mcp import ServerRef
from agent_operator.controller.reconcile.server_address import UnresolvedError, address_of
from agent_operator.manifests.document import Document
from agent_operator.tools.importing.belongings import KAGENT, Belongings, group_of, metadata_of
from agent_operator.tools.importing.draft import Draft, object_of, objects_of, text_of

# kagent's own default (go/api/v1alpha2/agent_types.go, TypedReference of McpServerTool).
MCP_SERVER = "MCPServer"
REMOTE_SERVER = "RemoteMCPServer"
_LONGEST_NAME = 32
_MOST_NAMES = 64
_LONGEST_TIMEOUT_SECONDS = 3600
# `allow` consists of patterns, and kagent has names.
_IN_PATTERNS = frozenset("*?[]")
# The units of Go's durations, as the API server writes them.
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_AUTHORIZATION = "authorization"


def convert_tools(draft: Draft, tools: Any, source: str, around: Belongings) -> None:
    """Put the MCP servers of kagent's list of tools into the draft; report each tool that is none."""
    for index, tool in enumerate(objects_of(tools)):
        path = f"{source}[{index}]"
        if tool.get("agent"):
            name = text_of(object_of(tool["agent"]).get("name"))
            draft.lost(f"{path}.agent", f"the built-in agent calls no other agents: call {name} from a runtime instead")
        else:
            _server(draft, tool, path, around)


def references(tools: Any) -> list[tuple[str, str | None, str]]:
    """Return kind, namespace (None for that of the agent) and name of each server that kagent's list refers to."""
    servers = (object_of(each.get("mcpServer")) for each in objects_of(tools))
    return [_reference(each) for each in servers if text_of(each.get("name"))]


def _reference(server: dict[str, Any]) -> tuple[str, str | None, str]:
    kind = text_of(server.get("kind")) or MCP_SERVER
    return kind, text_of(server.get("namespace")) or None, text_of(server.get("name"))


def _server(draft: Draft, tool: dict[str, Any], path: str, around: Belongings) -> None:
    server, source = object_of(tool.get("mcpServer")), f"{path}.mcpServer"
    kind, namespace, name = _reference(server)
    group = text_of(server.get("apiGroup")) or KAGENT
    if kind not in (MCP_SERVER, REMOTE_SERVER) or group != KAGENT:
        draft.lost(source, f"a {kind} of {group} has no address that Portside reads: add a tool with its address")
        return
    entry: dict[str, Any] = {"name": _name(draft, name)}
    refusal = _put_names(draft, entry, server, source)
    if refusal is not None:
        draft.lost(source, refusal)
        return
    reference = {"group": KAGENT, "kind": kind, "name": name}
    reference |= {"namespace": namespace} if namespace not in (None, draft.namespace) else {}
    entry["mcp"] = {"serverRef": reference}
    found = around.named(kind, namespace or draft.namespace, name)
    # ToolHive has a kind of the same name.
    found = found if found is not None and group_of(found) == KAGENT else None
    headers = _headers(draft, objects_of(tool.get("headersFrom")), f"{path}.headersFrom")
    if found is None:
        draft.note(
            source,
            f"{kind} {name} was not found, so its headers and its timeout are not in the result: set mcp.headersFrom "
            "if it requires credentials",
        )
    else:
        headers = _put_settings(draft, entry, found, headers, source)
    entry["mcp"] |= {"headersFrom": headers} if headers else {}
    _put_callers_headers(draft, entry["mcp"], server.get("allowedHeaders"), source)
    draft.put("tools", [*draft.spec.get("tools", []), entry], source.partition("[")[0])


def _put_names(draft: Draft, entry: dict[str, Any], server: dict[str, Any], source: str) -> str | None:
    """Put the names of the tools into the entry. Return why that is not possible; None if it is.

    Nothing that kagent does not allow, or only after a question, may become callable without one.
    """
    names = _texts(server.get("toolNames"))
    asked = _texts(server.get("requireApproval"))
    if _IN_PATTERNS & set("".join([*names, *asked])) or len(names) > _MOST_NAMES:
        return (
            f"toolNames has more than {_MOST_NAMES} names, or a name with * ? [ or ]: add the tool yourself, with "
            "patterns in allow"
        )
    if names:
        entry["allow"] = names
    if asked:
        entry["approve"] = asked
    return None


def _put_settings(
    draft: Draft, entry: dict[str, Any], found: Document, headers: list[dict[str, Any]], source: str
) -> list[dict[str, Any]]:
    """Put the timeout of a server into the entry, and return the headers with those of the server before them."""
    reference, metadata, spec = entry["mcp"]["serverRef"], metadata_of(found), object_of(found.get("spec"))
    title = f"{reference['kind']}/{reference['name']}"
    ours = draft.namespace or ""
    namespace = text_of(metadata.get("namespace")) or reference.get("namespace") or ours
    # A reference that is not valid is reported with the result.
    with suppress(ValidationError):
        try:
            document = {**found, "metadata": {**metadata, "namespace": namespace}}
            address_of(ServerRef.model_validate(reference), document, ours or namespace)
        except UnresolvedError as error:
            draft.note(source, f"{title} {error}")
    seconds = _seconds(text_of(spec.get("timeout")))
    if seconds is not None:
        entry["timeoutSeconds"] = seconds
    own, where = objects_of(spec.get("headersFrom")), f"{title}: spec.headersFrom"
    if own and namespace != (ours or namespace):
        draft.lost(
            where,
            "its Secrets are in another namespace: copy them into that of the agent, and set mcp.headersFrom",
        )
        return headers
    names = {each["name"].lower() for each in headers}
    return [*(each for each in _headers(draft, own, where) if each["name"].lower() not in names), *headers]


def _headers(draft: Draft, values: list[dict[str, Any]], source: str) -> list[dict[str, Any]]:
    """Return kagent's headers that have their value in a Secret; report the others."""
    found = []
    for value in values:
        name, reference = text_of(value.get("name")), object_of(value.get("valueFrom"))
        if reference.get("type") == "Secret":
            key = {"name": reference.get("name"), "key": reference.get("key")}
            found.append({"name": name, "secretKeyRef": key})
        else:
            draft.lost(f"{source}[{name}]", "values of headers come from Secrets: copy it into one, and refer to that")
    return found


def _put_callers_headers(draft: Draft, mcp: dict[str, Any], allowed: Any, source: str) -> None:
    for header in _texts(allowed):
        taken = any(each["name"].lower() == _AUTHORIZATION for each in mcp.get("headersFrom", []))
        if header.lower() != _AUTHORIZATION:
            draft.lost(f"{source}.allowedHeaders[{header}]", "of a caller's headers, only Authorization is passed on")
        elif taken:
            draft.lost(
                f"{source}.allowedHeaders[{header}]",
                "a request has one header Authorization, which is that of headersFrom: remove that to pass on the "
                "caller's (mcp.forwardCaller)",
            )
        else:
            mcp["forwardCaller"] = True
            draft.note(
                f"{source}.allowedHeaders[{header}]",
                "calls without a caller's token, such as those of tasks, are refused, and not made without it",
            )


def _name(draft: Draft, name: str) -> str:
    """Return a name for an entry that is valid and not taken."""
    taken = {each["name"] for each in draft.spec.get("tools", [])}
    wanted = re.sub(r"[^-a-z0-9]", "-", name.lower())[:_LONGEST_NAME].strip("-") or "server"
    number, found = 2, wanted
    while found in taken:
        suffix = f"-{number}"
        found, number = wanted[: _LONGEST_NAME - len(suffix)].rstrip("-") + suffix, number + 1
    return found


def _seconds(duration: str) -> int | None:
    """Return a duration of Go in whole seconds that `timeoutSeconds` accepts; None if it is not one."""
    if not re.fullmatch(r"([0-9]{1,9}(\.[0-9]{1,9})?(h|ms|m|s))+", duration):
        return None
    parts = re.findall(r"([0-9.]+)(h|ms|m|s)", duration)
    seconds = math.ceil(sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts))
    return min(max(seconds, 1), _LONGEST_TIMEOUT_SECONDS)


def _texts(value: Any) -> list[str]:
    return list(dict.fromkeys(text_of(each) for each in value if text_of(each))) if isinstance(value, list) else []
