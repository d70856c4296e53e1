"""The public keys of an issuer (JSON Web Key Set, RFC 7517). Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

# By the type of the key, and its curve. Only these can verify a token: with a secret that both sides have, a public key
# could be used as that secret (RFC 8725, 3.1).
_ALGORITHMS: Mapping[tuple[str, str | None], tuple[str, ...]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA", "Ed25519"),
}
# Two names of one algorithm (RFC 9864, 2.2): an issuer may write one into its key and the other into its tokens.
_SAME = frozenset({"EdDSA", "Ed25519"})
ALGORITHMS = frozenset(name for names in _ALGORITHMS.values() for name in names)

# More would be a mistake.
_MOST_KEYS = 64
# Of the keys that fit a token without a key id. Each costs time, and anyone can send such tokens.
_MOST_TRIED = 8
_SHORTEST_RSA_BITS = 2048


class KeySetError(ValueError):
    """The text is not a key set with a usable key. The message is for the log."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key that verifies signatures with these algorithms."""

    kid: str | None
    key: Any
    algorithms: tuple[str, ...]
    thumbprint: str


def key_set(document: object) -> tuple[PublicKey, ...]:
    """Return the keys of a key set that can verify a signature. Others are ignored, as RFC 7517, 5 requires.

    Raises:
        KeySetError: if there is none.
    """
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise KeySetError("is not a key set")
    keys = tuple(key for entry in entries[:_MOST_KEYS] if (key := _key(entry)) is not None)
    if not keys:
        raise KeySetError("has no key that can verify a signature")
    return keys


def candidates(keys: Iterable[PublicKey], kid: str | None, algorithm: str) -> tuple[PublicKey, ...]:
    """Return the keys that can verify a token with this header."""
    return tuple(key for key in keys if algorithm in key.algorithms and kid in {None, key.kid})[:_MOST_TRIED]


def _key(entry: object) -> PublicKey | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    kty, crv, kid = entry.get("kty"), entry.get("crv"), entry.get("kid")
    algorithms = _ALGORITHMS.get((str(kty), None if kty == "RSA" else str(crv)), ())
    if "alg" in entry:
        allowed = _SAME if entry["alg"] in _SAME else {entry["alg"]}
        algorithms = tuple(name for name in algorithms if name in allowed)
    if not algorithms:
        return None
    public = {name: value for name, value in entry.items() if name in {"kty", "crv", "n", "e", "x", "y"}}
    try:
        key = jwt.PyJWK(public, algorithm=algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if getattr(key, "key_size", _SHORTEST_RSA_BITS) < _SHORTEST_RSA_BITS and kty == "RSA":
        return None
    return PublicKey(kid if isinstance(kid, str) else None, key, algorithms, repr(sorted(public.items())))
