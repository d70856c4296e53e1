"""Verifies a token with the keys of its issuer, and reads what it says of its client. Pure."""

import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jwt
from jwt.algorithms import OKPAlgorithm

from agent_service.auth.identity import Client, Refusal, of_token
from agent_service.auth.tokens.key_set import ALGORITHMS, PublicKey, candidates
from agent_service.config.issuers import Issuer

# Servers accept headers of this size altogether.
_LARGEST_TOKEN_BYTES = 16 * 1024
_LONGEST_CLAIM = 200

_MALFORMED = Refusal("invalid_token", "malformed", "The token is not a JSON Web Token")
_NO_KEY = Refusal("invalid_token", "signature", "The signature of the token is not valid for any key of its issuer")


class _Verifier(jwt.PyJWT):
    """The library with the name that RFC 9864 has for EdDSA with an Ed25519 key, beside the older one."""

    def __init__(self) -> None:
        super().__init__()
        self._jws.register_algorithm("Ed25519", OKPAlgorithm())


_VERIFIER = _Verifier()


class Unverified(NamedTuple):
    """What a token claims before it is verified: its issuer, and the key and algorithm of its signature."""

    issuer: str
    kid: str | None
    algorithm: str


class Verified(NamedTuple):
    """The client of a valid token, and until when the token is valid, in seconds since 1970."""

    client: Client
    until: float


def looks_like_token(text: bytes) -> bool:
    """Return whether a credential is meant to be a token: three parts, the first of them a JSON object."""
    return text.startswith(b"eyJ") and text.count(b".") == 2  # noqa: PLR2004  header, payload, signature


def read(token: bytes) -> Unverified | Refusal:
    """Return what a token claims, by which its issuer and key are found."""
    if len(token) > _LARGEST_TOKEN_BYTES:
        return _MALFORMED
    try:
        parts = jwt.decode_complete(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return _MALFORMED
    header, claims = parts["header"], parts["payload"]
    algorithm, kid, issuer = header.get("alg"), header.get("kid"), claims.get("iss")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        return Refusal("invalid_token", "algorithm", "The token is signed with an algorithm that is not accepted")
    if not isinstance(issuer, str):
        return Refusal("invalid_token", "issuer", "The token has no issuer")
    return Unverified(issuer, kid if isinstance(kid, str) else None, algorithm)


def verify(token: bytes, unverified: Unverified, issuer: Issuer, keys: Iterable[PublicKey]) -> Verified | Refusal:
    """Return the client of a token, or why the token is refused."""
    for key in candidates(keys, unverified.kid, unverified.algorithm):
        try:
            claims = _VERIFIER.decode(
                token,
                key=key.key,
                algorithms=list(key.algorithms),
                audience=issuer.audiences,
                issuer=issuer.issuer,
                leeway=issuer.clock_skew_seconds,
                options={"require": ["exp", "iss", "aud"], "verify_sub": False, "verify_jti": False},
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.PyJWTError as error:
            return _refusal(error, issuer)
        return _client(claims, issuer)
    return _NO_KEY


def _refusal(error: jwt.PyJWTError, issuer: Issuer) -> Refusal:
    """Return why a token with a valid signature is refused. The library's own message may quote the token."""
    skew = f"{issuer.clock_skew_seconds} seconds of difference between the clocks are accepted"
    match error:
        case jwt.ExpiredSignatureError():
            return Refusal("invalid_token", "expired", f"The token has expired; {skew}")
        case jwt.ImmatureSignatureError():
            return Refusal("invalid_token", "not_yet_valid", f"The token is not valid yet; {skew}")
        case jwt.InvalidAudienceError():
            return Refusal("invalid_token", "audience", "The token is for another audience than this agent")
        case jwt.InvalidIssuerError():
            return Refusal("invalid_token", "issuer", "The token is from another issuer")
        case jwt.MissingRequiredClaimError() if error.claim in {"exp", "iss", "aud"}:
            return Refusal("invalid_token", "claims", f"The token has no claim {error.claim}")
        case _:
            return Refusal("invalid_token", "claims", "The token has a claim or a header that is not valid")


def _client(claims: Mapping[str, Any], issuer: Issuer) -> Verified | Refusal:
    missing = set(issuer.required_scopes) - _scopes(claims)
    if missing:
        scope = " ".join(issuer.required_scopes)
        return Refusal("insufficient_scope", "scope", f"The token lacks a scope; required: {scope}", scope)
    client = _text(claims, issuer.client_claim)
    tenant = None if issuer.tenant_claim is None else _text(claims, issuer.tenant_claim)
    for claim, value in ((issuer.client_claim, client), (issuer.tenant_claim, tenant)):
        if claim is not None and value is None:
            usable = f"with at most {_LONGEST_CLAIM} printable characters"
            name = claim.translate({ord('"'): None, ord("\\"): None})
            return Refusal("invalid_token", "claims", f"The token has no claim {name} {usable}")
    audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    forwards = not set(audiences) <= set(issuer.audiences)
    found = of_token(issuer.issuer, str(client), tenant, forwards=forwards)
    return Verified(found, float(claims["exp"]) + issuer.clock_skew_seconds)


def _scopes(claims: Mapping[str, Any]) -> set[str]:
    """Return the scopes: `scope` (RFC 8693, 4.2), or `scp`, as Entra ID (a text) and Okta (a list) have it."""
    found: set[str] = set()
    for value in (claims.get("scope"), claims.get("scp")):
        words = value.split() if isinstance(value, str) else value
        found |= {word for word in words if isinstance(word, str)} if isinstance(words, list) else set()
    return found


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    """Return a claim as text; None if it is missing or unusable. A name with a slash first is a JSON Pointer."""
    value: Any = claims
    parts = [part.replace("~1", "/").replace("~0", "~") for part in name[1:].split("/")] if name[0] == "/" else [name]
    for part in parts:
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    usable = isinstance(value, str) and 0 < len(value) <= _LONGEST_CLAIM and value.isprintable()
    return value if usable else None


def is_current(verified: Verified) -> bool:
    """Return whether a token that was valid is still."""
    return time.time() < verified.until
