"""Workload identity of Microsoft Entra: the pod's token as the assertion of an application or a managed identity.

Microsoft, "OAuth 2.0 client credentials flow", third case (access token request with a federated credential). It is one
form and one answer, for which azure-identity with msal would be 4 MB and a second HTTP client.
"""

from dataclasses import dataclass

from agent_service.agent.claude.credentials import Token
from agent_service.agent.identity.requests import post
from agent_service.agent.identity.service_account_token import ServiceAccountToken

ADDRESS = "https://login.microsoftonline.com"

_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# As the SDK's documentation of its client for Foundry.
_SCOPE = "https://ai.azure.com/.default"

_PLACE = "Microsoft Entra ID"
# Microsoft, "Microsoft Entra authentication and authorization error codes".
_WORDS = (
    (r"AADSTS700212", "audience_refused"),
    (r"AADSTS(700211|50166|50013|500131)", "issuer_refused"),
    (r"AADSTS(700024|700082)", "identity_token_expired"),
    (r"AADSTS(700213|70021|700016|90002|700051)", "identity_not_trusted"),
)


@dataclass(frozen=True, slots=True)
class EntraIdentity:
    """The application or managed identity that trusts the pod's token. `address` is that of Entra."""

    tenant_id: str
    client_id: str
    address: str | None = None

    async def exchange(self, token: ServiceAccountToken) -> tuple[Token, float]:
        """Return an access token, and the seconds that it lives. Errors as `agent.errors`."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_assertion_type": _ASSERTION,
            "client_assertion": token.text,
            "scope": _SCOPE,
        }
        answer = await post(f"{self.address or ADDRESS}/{self.tenant_id}/oauth2/v2.0/token", _PLACE, form=form)
        answer.check(_WORDS)
        value, seconds = answer.access_token()
        return Token(value, self), seconds
