"""The client keys of API_KEYS: a list of keys, each of which may have a name. Pure."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from agent_service.config.values import valid_key

SHORTEST_CLIENT_KEY = 16

# A name begins with a letter, so that none is an address, whose requests are counted in the same way.
_PART = r"[A-Za-z](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_NAME = rf"(?:{_PART}/)?{_PART}"
_HASH = "[0-9a-f]{16}"
_LABEL = re.compile(rf"(?P<name>{_NAME})(?:=(?P<id>{_HASH}|{_NAME}))?:")

# What others than named clients are called: callers without keys, unknown addresses, and labels of metrics.
_RESERVED = frozenset({"anonymous", "anyone", "jwt", "other", "unknown", "unnamed"})

# The id of a client: the name or the hash of its key, or what `auth.identity` makes of a token.
_CLIENT_ID = re.compile(rf"{_HASH}|{_NAME}|jwt:[0-9a-f]{{8}}:[A-Za-z0-9._~%-]*/[A-Za-z0-9._~%-]+")


class ClientKey(NamedTuple):
    """A key of a client, with its name (`name`, or `tenant/name`); None if it has none.

    `former_id` is the id that a renamed client keeps; None for the id by its name.
    """

    key: str
    name: str | None = None
    former_id: str | None = None


def client_keys(raw: str) -> tuple[ClientKey, ...]:
    """Return the keys in `raw`, which are separated by commas or white space, each once.

    An entry is `key`, `name: key`, `tenant/name: key`, or `name=id: key`. Several keys may have one name.

    Raises:
        ValueError: if there are no keys, a key is too short to be a secret, or the names contradict each other. The
            message shows no part of the text.
    """
    entries = tuple(dict.fromkeys(_entries(part for part in re.split(r"[,\s]+", raw) if part)))
    if not entries:
        raise ValueError("does not contain a key")
    if any(len(entry.key) < SHORTEST_CLIENT_KEY for entry in entries):
        raise ValueError(f"contains a key of fewer than {SHORTEST_CLIENT_KEY} characters, which could be guessed")
    if len({entry.key for entry in entries}) < len(entries):
        raise ValueError("contains a key twice, with different names; remove one of the two entries")
    names = {(entry.name, entry.former_id or entry.name) for entry in entries if entry.name is not None}
    if len({name for name, _ in names}) < len(names) or len({known for _, known in names}) < len(names):
        raise ValueError("has one name with two ids, or one id with two names; give each client one name and one id")
    return entries


def is_client_id(text: str) -> bool:
    """Return whether a text can be the id of a client that has a key or a token."""
    return _CLIENT_ID.fullmatch(text) is not None


def _entries(parts: Iterable[str]) -> Iterator[ClientKey]:
    label: re.Match[str] | None = None
    for part in parts:
        found = _LABEL.fullmatch(part)
        if found is not None and label is not None:
            raise ValueError("contains a name without a key after it")
        if found is not None:
            label = found
            _check_name(found["name"])
        elif label is not None:
            yield ClientKey(valid_key(part), label["name"], label["id"])
            label = None
        else:
            yield ClientKey(valid_key(part))
    if label is not None:
        raise ValueError("ends with a name, without a key after it")


def _check_name(name: str) -> None:
    if name in _RESERVED or re.fullmatch(_HASH, name):
        raise ValueError("contains a reserved name: 16 hex digits, or one of " + ", ".join(sorted(_RESERVED)))
