"""The service-account token that the kubelet puts into the pod, and replaces before it expires."""

import base64
import binascii
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from agent_service.agent.identity import failures
from agent_service.config.values import valid_key

# A token takes about a kilobyte.
_LARGEST_BYTES = 2**14


@dataclass(frozen=True, slots=True)
class ServiceAccountToken:
    """A token, and what it says about itself. Its signature is for others to verify."""

    text: str = field(repr=False)
    issuer: str
    subject: str
    audiences: tuple[str, ...]
    expires: float

    def described(self) -> str:
        """Return what the token says, for the log."""
        return f"token of {self.subject}, issued by {self.issuer}, for {', '.join(self.audiences) or 'no audience'}"


def read_token(file: Path, now: Callable[[], float] = time.time) -> ServiceAccountToken:
    """Return the token in a file.

    Raises:
        CredentialsRefusedError: when the file is missing, has no token, or one that has expired.
    """
    try:
        with file.open("rb") as opened:
            raw = opened.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise failures.refused("no_identity_token", upstream=type(error).__name__) from error
    try:
        token = _parsed(raw)
    except (ValueError, LookupError, TypeError, RecursionError):
        # The errors of the libraries may quote the token.
        raise failures.refused("no_identity_token", upstream="not a JSON Web Token") from None
    if token.expires <= now():
        late = now() - token.expires
        raise failures.refused("identity_token_expired", upstream=f"expired {late:.0f} s ago; {token.described()}")
    return token


def _parsed(raw: bytes) -> ServiceAccountToken:
    if len(raw) > _LARGEST_BYTES:
        raise ValueError("too long")
    text = valid_key(raw.decode("ascii"))
    claims = _claims(text)
    audiences = claims.get("aud", [])
    return ServiceAccountToken(
        text,
        str(claims["iss"]),
        str(claims["sub"]),
        tuple(map(str, audiences if isinstance(audiences, list) else [audiences])),
        float(claims["exp"]),
    )


def _claims(text: str) -> dict[str, Any]:
    _, payload, _ = text.split(".")
    try:
        found = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if not isinstance(found, dict):
        raise TypeError("not an object")
    return found
