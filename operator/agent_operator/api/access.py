"""Who may call an agent, and how often: client keys, rate limits and web pages."""

from typing import Annotated

from pydantic import Field, StringConstraints

from agent_operator.api.approvals import ClientId
from agent_operator.api.base import Model
from agent_operator.api.core_v1 import DataKey, ObjectName
from agent_operator.api.jwt import Jwt
from agent_operator.api.kubernetes.part import SET
from agent_operator.api.rules import Rule

_Origin = Annotated[
    str, StringConstraints(pattern=r"^(\*|https?://[A-Za-z0-9\[][A-Za-z0-9.:\]-]*)$", min_length=1, max_length=253)
]
_Network = Annotated[
    str,
    StringConstraints(
        pattern=r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)(/[0-9]{1,3})?$", max_length=64
    ),
]


class Auth(Model):
    """Client keys and tokens that grant access to the agent API."""

    enabled: bool = False
    """Whether clients must send a key (`Authorization: Bearer` or `X-API-Key`). If enabled without `existingSecret`,
    one key is generated and kept in the Secret `<agent>-client-keys`."""
    existing_secret: ObjectName | None = None
    """Name of a Secret in the same namespace that contains the keys. Changes to the Secret take effect without a
    restart."""
    secret_key: DataKey = "API_KEYS"  # noqa: S105  the name of a key in a Secret, not its value
    """Key inside that Secret. Its value is one or more client keys, separated by commas or line breaks. An entry may be
    `name: key` or `tenant/name: key`."""
    jwt: Jwt | None = None
    """Issuers whose tokens (JWT) clients may send instead of a client key."""

    usage_readers: Annotated[list[ClientId], Field(max_length=100, json_schema_extra=SET)] | None = None
    """Clients that may read the usage of all clients (`GET /usage/clients`), by the names of their keys."""


class RateShare(Model):
    """What one client, or all clients of one tenant, may use in a minute."""

    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Maximum number of requests."""
    tokens_per_minute: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Maximum number of tokens."""


class RateLimit(Model):
    """Rate limits for clients, counted in Redis across all pods."""

    requests_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """Maximum number of requests per minute from one client. 0 means no limit."""
    tokens_per_minute: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """Maximum number of tokens per minute for the whole agent. 0 means no limit."""
    per_client: RateShare | None = None
    """Limits of each client with a key or a token; its requests replace `requestsPerMinute`."""
    per_tenant: RateShare | None = None
    """Limits of all clients of one tenant together."""
    trusted_proxies: Annotated[list[_Network], Field(max_length=32, json_schema_extra=SET)] | None = None
    """Addresses or networks of the proxies in front of the agent, such as 10.0.0.0/8. `X-Forwarded-For` is trusted
    only from these proxies. If unset, all clients behind an Ingress count as one client."""


class Cors(Model):
    """Web pages that may call the agent API from a browser."""

    rules = (
        Rule(
            cel="!self.allowCredentials || !has(self.origins) || !('*' in self.origins)",
            message="cors.allowCredentials cannot be combined with the origin *: list the origins",
            holds=lambda cors: not cors.allow_credentials or "*" not in (cors.origins or []),
            field="origins",
        ),
    )

    origins: Annotated[list[_Origin], Field(max_length=32, json_schema_extra=SET)] | None = None
    """Origins of the pages, such as https://app.example.com, or * for all origins. If unset, no origin is allowed."""
    allow_credentials: bool = False
    """Whether the pages may send cookies and keys that the browser stores."""
