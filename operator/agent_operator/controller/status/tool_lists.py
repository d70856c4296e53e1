"""What the status keeps of each server of tools: its address by reference, and the hash of its list of tools. Pure.

A server that changes the descriptions of its tools after the agent was deployed may instruct the model: an Event names
it. The hash that was seen first for a generation of the spec counts, because another spec may allow other tools.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_operator.api.tools import Tool
from agent_operator.controller.status.settling import Reading

LISTS_CHANGED = "ToolDescriptionsChanged"


@dataclass(frozen=True)
class Address:
    """The address that a reference of a tool was resolved to."""

    reference: str
    url: str


def status_of_servers(
    tools: Sequence[Tool], lists: Reading, addresses: Mapping[str, Address], generation: int, old: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the servers for the status. While pods report no hash of a list, the last one is kept.

    Args:
        tools: the tools of the spec.
        lists: the settled hashes, by the name of the server.
        addresses: the addresses of references, by the name of the server.
        generation: the generation of the spec.
        old: the previous status.
    """
    hashes = _hashes(old) if old.get("observedGeneration") == generation else {}
    found = []
    for tool in tools:
        address, value = addresses.get(tool.name), lists.get(tool.name, hashes.get(tool.name))
        entry: dict[str, Any] = {"name": tool.name}
        entry |= {"hash": value} if value is not None and tool.builtin is None else {}
        entry |= {"reference": address.reference, "url": address.url} if address is not None else {}
        found += [entry] if len(entry) > 1 else []
    return found


def without_hashes(servers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return servers of a status without their hashes, which are of another spec."""
    kept = [{key: value for key, value in each.items() if key != "hash"} for each in servers]
    return [each for each in kept if len(each) > 1]


def addresses_in(status: Mapping[str, Any]) -> dict[str, Address]:
    """Return the addresses of references that a status has, by the name of the server."""
    servers = status.get("toolServers") or ()
    return {
        each["name"]: Address(each["reference"], each["url"]) for each in servers if each.keys() >= {"reference", "url"}
    }


def changed_lists(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Return the message about servers whose tools changed from one status to the next; None if none did."""
    if old.get("observedGeneration") != new.get("observedGeneration"):
        return None
    before, after = _hashes(old), _hashes(new)
    names = [name for name, value in after.items() if before.get(name, value) != value]
    if not names:
        return None
    return (
        f"Servers changed the names, descriptions or schemas of their tools since the pods first listed them: "
        f"{', '.join(names)}. Check that the descriptions are what the model should read; the log of a pod names the "
        "tools that changed"
    )


def _hashes(status: Mapping[str, Any]) -> dict[str, str]:
    return {each["name"]: each["hash"] for each in status.get("toolServers") or () if "hash" in each}
