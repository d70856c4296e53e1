"""Names under which tools are offered: unique among all servers, and of the form that model APIs accept. Pure."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence

_LONGEST = 64
_SEPARATOR = "__"
_DIGEST = 8
_OTHER = re.compile(r"[^A-Za-z0-9_-]")


def offered_names(servers: Mapping[str, Sequence[str]], taken: Sequence[str] = ()) -> dict[tuple[str, str], str]:
    """Return the name of each tool, by its server and its original name.

    It is the original name, with other characters replaced by `_`. Where two tools would have the same name, or it
    looks like one with a server's name, it is `server__tool` for each: no server can take over a name of another.

    Args:
        servers: the original names of the tools of each server.
        taken: names that tools of the model API have.
    """
    plain = {(server, tool): plain_name(tool) for server, tools in servers.items() for tool in tools}
    used = Counter([*plain.values(), *taken])
    found: dict[tuple[str, str], str] = {}
    for (server, tool), name in plain.items():
        first, separator, _ = name.partition(_SEPARATOR)
        unique = used[name] == 1 and len(name) <= _LONGEST and not (separator and first in servers)
        found[server, tool] = name if unique else _qualified(server, name, tool)
    # Two names of one server that differ only in characters that were replaced.
    repeated = {name for name, count in Counter(found.values()).items() if count > 1}
    for (server, tool), name in found.items():
        if name in repeated:
            found[server, tool] = _with_digest(name, tool)
    return found


def plain_name(tool: str) -> str:
    """Return the name under which a tool is offered if no other tool has it."""
    return _OTHER.sub("_", tool)


def _qualified(server: str, name: str, tool: str) -> str:
    # The name of a server contains no `_`, so the first separator shows where it ends.
    full = f"{server}{_SEPARATOR}{name}"
    return full if len(full) <= _LONGEST else _with_digest(full, tool)


def _with_digest(name: str, tool: str) -> str:
    digest = hashlib.sha256(tool.encode("utf-8", "replace")).hexdigest()[:_DIGEST]
    return f"{name[: _LONGEST - _DIGEST - 1]}_{digest}"
