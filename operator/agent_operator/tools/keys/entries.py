"""The entries of a Secret with client keys: read, changed and written as text. Pure.

The service reads the same text (its `config/client_keys.py`): keys that commas or white space separate, each with or
without a name before it, `name:` or `name=id:`.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from agent_operator.tools.errors import ToolError

_PART = r"[A-Za-z](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"(?:{_PART}/)?{_PART}")
_HASH = re.compile("[0-9a-f]{16}")
_LABEL = re.compile(rf"({_NAME.pattern})(?:=({_HASH.pattern}|{_NAME.pattern}))?:")
_RESERVED = frozenset({"anonymous", "anyone", "jwt", "other", "unknown", "unnamed"})


@dataclass(frozen=True)
class Entry:
    """A key, the name of its client if it has one, and the id that a renamed client keeps."""

    key: str
    name: str | None = None
    former_id: str | None = None

    @property
    def client_id(self) -> str:
        """The id of the client, as the service has it."""
        return self.former_id or self.name or hashlib.sha256(self.key.encode()).hexdigest()[:16]

    @property
    def client(self) -> str:
        """What the client is called: its name, or the hash of its key."""
        return self.name or self.client_id


def entries(text: str) -> list[Entry]:
    """Return the entries of a Secret's value.

    Raises:
        ToolError: if a name has no key.
    """
    return list(_entries([part for part in re.split(r"[,\s]+", text) if part]))


def written(keys: Sequence[Entry]) -> str:
    """Return the value of a Secret, one entry a line."""
    return "".join(f"{_label(entry)}{entry.key}\n" for entry in keys)


def added(keys: Sequence[Entry], client: str, key: str) -> list[Entry]:
    """Return the entries with a new client.

    Raises:
        ToolError: if the name is not valid, or a client has it.
    """
    _check(client)
    if any(client in {entry.client, entry.client_id} for entry in keys):
        raise ToolError(f"There is a client {client} already: --rotate gives it a further key.")
    return [*keys, Entry(key, client)]


def rotated(keys: Sequence[Entry], client: str, key: str) -> list[Entry]:
    """Return the entries with a further key of a client.

    Raises:
        ToolError: if there is no such client, or it has no name, by which two keys are one client.
    """
    last = max(_places(keys, client))
    if keys[last].name is None:
        raise ToolError(
            f"The key {client} has no name, so that a further key would be another client: give it one with --rename "
            f"{client} NAME."
        )
    return [*keys[: last + 1], replace(keys[last], key=key), *keys[last + 1 :]]


def finished(keys: Sequence[Entry], client: str) -> list[Entry]:
    """Return the entries with the newest key of a client only.

    Raises:
        ToolError: if there is no such client.
    """
    *earlier, _ = _places(keys, client)
    return [entry for place, entry in enumerate(keys) if place not in earlier]


def revoked(keys: Sequence[Entry], client: str) -> list[Entry]:
    """Return the entries without a client.

    Raises:
        ToolError: if there is no such client, or no other one: the last valid keys would stay in use.
    """
    places = _places(keys, client)
    if len(places) == len(keys):
        raise ToolError(
            f"{client} is the only client, and an agent whose Secret has no key keeps the last ones: --add another "
            "client first."
        )
    return [entry for place, entry in enumerate(keys) if place not in places]


def renamed(keys: Sequence[Entry], client: str, name: str) -> list[Entry]:
    """Return the entries with another name for a client, which keeps its id.

    Raises:
        ToolError: if there is no such client, the name is not valid, or another client has it.
    """
    _check(name)
    places = _places(keys, client)
    known = keys[places[0]].client_id
    if any(name in {entry.client, entry.client_id} for place, entry in enumerate(keys) if place not in places):
        raise ToolError(f"Another client is called {name}, or was: choose another name.")
    former = None if name == known else known
    return [
        replace(entry, name=name, former_id=former) if place in places else entry for place, entry in enumerate(keys)
    ]


def _entries(parts: Sequence[str]) -> Iterator[Entry]:
    label: re.Match[str] | None = None
    for part in parts:
        found = _LABEL.fullmatch(part)
        if found is None:
            yield Entry(part) if label is None else Entry(part, label[1], label[2])
            label = None
            continue
        if label is not None:
            break
        label = found
    if label is not None:
        raise ToolError("The Secret has a name without a key after it: correct it with kubectl edit.")


def _places(keys: Sequence[Entry], client: str) -> list[int]:
    places = [place for place, entry in enumerate(keys) if client in {entry.name, entry.client_id}]
    if not places:
        raise ToolError(f"There is no client {client}: without an option, the command lists the clients.")
    return places


def _check(name: str) -> None:
    if not _NAME.fullmatch(name) or _HASH.fullmatch(name) or name in _RESERVED:
        raise ToolError(
            f"{name} cannot be the name of a client. A name begins with a letter and has letters, digits, '.', '_' and "
            "'-'; a tenant and a slash may be before it."
        )


def _label(entry: Entry) -> str:
    if entry.name is None:
        return ""
    return f"{entry.name}={entry.former_id}: " if entry.former_id is not None else f"{entry.name}: "
