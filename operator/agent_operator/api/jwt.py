"""Clients with tokens (JWT) of an issuer, such as an OpenID Connect provider."""

from typing import Annotated

from pydantic import Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.kubernetes.part import SET, keyed
from agent_operator.api.mcp import ToolAddress

# The texts that the service reads are printable ASCII, which Go and Python write as the same JSON.
_Text = Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=1, max_length=1024)]
_Claim = Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=1, max_length=256)]
# RFC 6749, section 3.3.
_Scope = Annotated[str, StringConstraints(pattern=r"^[!#-\[\]-~]+$", min_length=1, max_length=256)]


class JwtIssuer(Model):
    """An issuer, and what its tokens must be like. Only asymmetric signatures are accepted."""

    issuer: ToolAddress
    """Address of the issuer, exactly as in the claim `iss`. The NetworkPolicy allows egress to it."""
    jwks_url: ToolAddress | None = None
    """Address of its keys. Defaults to the `jwks_uri` of the issuer's OpenID Connect discovery document."""
    audiences: Annotated[list[_Text], Field(min_length=1, max_length=16, json_schema_extra=SET)]
    """Audiences of this agent. The claim `aud` must have one of them."""
    client_claim: _Claim | None = None
    """Claim that names the client, or its path, such as `/kubernetes.io/namespace`. Defaults to `sub`."""
    tenant_claim: _Claim | None = None
    """Claim that names the client's tenant. If set, a token must have it."""
    required_scopes: Annotated[list[_Scope], Field(max_length=16, json_schema_extra=SET)] | None = None
    """Scopes that a token must have, in the claim `scope` or `scp`."""
    clock_skew_seconds: Annotated[int, Field(ge=0, le=600)] | None = None
    """Seconds by which clocks may differ. Defaults to 60."""


class Jwt(Model):
    """Tokens that grant access to the agent API. Changes take effect without a restart."""

    issuers: Annotated[list[JwtIssuer], Field(min_length=1, max_length=8, json_schema_extra=keyed("issuer"))]
    """Issuers of the tokens."""
