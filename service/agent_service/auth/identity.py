"""What is known about the client of a request. Pure."""

import hashlib
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote

# Without client keys, any caller that knows the id of a conversation may continue it.
ANYONE = "anyone"

# Values for metrics of clients without a name: with a token, without a key, and with a key that was removed.
_JWT, _ANONYMOUS, _OTHER = "jwt", "anonymous", "other"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the credential of a request was refused.

    `kind` is a code of RFC 6750, 3.1, or `unavailable` if it could not be verified. `reason` is one word for metrics,
    `detail` a sentence for the client without its credential. `scope` are the required scopes, if some are missing.
    """

    kind: Literal["invalid_token", "insufficient_scope", "unavailable"]
    reason: str
    detail: str
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Client:
    """The sender of a request: `known` by a key or a token, or else an address.

    `id` owns its conversations, tasks and usage, and may be written to a log or to Redis. `name` is for people, None
    for an address and for a key without a name. `label` is the value for metrics. `forwards` is whether its token may
    be forwarded to a tool. `refusal` is why the credential of an unknown client was refused; None if it sent none.
    """

    id: str
    known: bool
    name: str | None = None
    label: str = _ANONYMOUS
    forwards: bool = True
    refusal: Refusal | None = None

    @property
    def shown(self) -> str:
        """The client as logs show it."""
        return self.name or self.id


def of_key(key: str, name: str | None, former_id: str | None) -> Client:
    """Return the client of a key. Without a name, its id is the first 16 hex digits of the SHA-256 of the key."""
    if name is None:
        return Client(hashlib.sha256(key.encode()).hexdigest()[:16], known=True, label="unnamed")
    return Client(former_id or name, known=True, name=name, label=name)


def of_token(issuer: str, client: str, tenant: str | None, *, forwards: bool) -> Client:
    """Return the client of a verified token.

    The id has both claims, escaped: a user is another client in another tenant, and with another issuer.
    """
    tag = hashlib.sha256(issuer.encode()).hexdigest()[:8]
    known = f"{_JWT}:{tag}:{_escaped(tenant or '')}/{_escaped(client)}"
    return Client(known, known=True, name=name_of(known), label=_JWT, forwards=forwards)


def name_of(client_id: str) -> str:
    """Return the name in the id of a client, for people: `name`, `tenant/name`, or the hash of a key."""
    if not client_id.startswith(f"{_JWT}:"):
        return client_id
    tenant, _, client = client_id.split(":", 2)[2].partition("/")
    return unquote(client) if not tenant else f"{unquote(tenant)}/{unquote(client)}"


def label_of(client_id: str | None) -> str:
    """Return the value for metrics of a client of whose key nothing is known any more."""
    if client_id is None or client_id == ANYONE:
        return _ANONYMOUS
    return _JWT if client_id.startswith(f"{_JWT}:") else _OTHER


def for_log(client_id: str) -> dict[str, str]:
    """Return the fields of log lines for a client by its id; none for `anyone`."""
    return {} if client_id == ANYONE else {"client": name_of(client_id)}


def tenant_of(client_id: str) -> str | None:
    """Return the tenant in the id of a client; None if it has none."""
    scoped = client_id.split(":", 2)[2] if client_id.startswith(f"{_JWT}:") else client_id
    tenant, slash, _ = scoped.partition("/")
    # An address may contain a slash as well: an IPv6 network.
    return unquote(tenant) or None if slash and ":" not in tenant else None


def _escaped(claim: str) -> str:
    return quote(claim, safe="")
