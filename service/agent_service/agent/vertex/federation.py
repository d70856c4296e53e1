"""Workload identity federation of Google Cloud, with or without a service account that is impersonated.

Google, "Workload identity federation": the token exchange of Security Token Service (RFC 8693), and
`generateAccessToken` of IAM Credentials. google-auth has a client for them, which blocks and has its own HTTP session;
a unit test compares the requests with its requests.
"""

from dataclasses import dataclass
from datetime import datetime

from agent_service.agent.claude.credentials import Token
from agent_service.agent.identity import failures
from agent_service.agent.identity.requests import post
from agent_service.agent.identity.service_account_token import ServiceAccountToken

_STS, _IAM = "https://sts.googleapis.com", "https://iamcredentials.googleapis.com"
_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  a name, as the next one
_JWT = "urn:ietf:params:oauth:token-type:jwt"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_SCOPE_OF_IAM = "https://www.googleapis.com/auth/iam"

_PLACE = "Google's Security Token Service"
_WORDS = (
    (r"audience in ID token|the audience in|expected audience", "audience_refused"),
    (r"issuer|jwks|\bkid\b|signing key|signature|connecting to", "issuer_refused"),
    (r"stale to sign-in|expired|issued at|not yet valid|future", "identity_token_expired"),
    (r"attribute condition|rejected|Invalid value for \"?audience|pool|unauthorized_client", "identity_not_trusted"),
)
_ACCOUNT = "Google's IAM"
_OF_ACCOUNT = ((r"", "identity_not_trusted"),)


@dataclass(frozen=True, slots=True)
class GoogleIdentity:
    """The provider that trusts the pod's token, and the service account that it may impersonate.

    `address` is that of both services, if it is not Google's own.
    """

    provider: str
    service_account: str | None = None
    address: str | None = None

    async def exchange(self, token: ServiceAccountToken) -> tuple[Token, float]:
        """Return an access token, and the seconds that it lives. Errors as `agent.errors`."""
        form = {
            "grant_type": _GRANT,
            "audience": f"//iam.googleapis.com/{self.provider}",
            "requested_token_type": _ACCESS_TOKEN,
            "subject_token": token.text,
            "subject_token_type": _JWT,
            "scope": _SCOPE if self.service_account is None else _SCOPE_OF_IAM,
        }
        answer = await post(f"{self.address or _STS}/v1/token", _PLACE, form=form)
        answer.check(_WORDS)
        federated, seconds = answer.access_token()
        if self.service_account is None:
            return Token(federated, self), seconds
        return await self._impersonated(federated)

    async def _impersonated(self, federated: str) -> tuple[Token, float]:
        path = f"/v1/projects/-/serviceAccounts/{self.service_account}:generateAccessToken"
        answer = await post(
            (self.address or _IAM) + path,
            _ACCOUNT,
            json={"scope": [_SCOPE], "lifetime": "3600s"},
            headers={"Authorization": f"Bearer {federated}"},
        )
        answer.check(_OF_ACCOUNT)
        found = answer.object()
        try:
            value, seconds = (
                str(found["accessToken"]),
                answer.seconds_until(datetime.fromisoformat(found["expireTime"])),
            )
        except (LookupError, ValueError, TypeError):
            raise failures.unreadable(_ACCOUNT) from None
        return Token(value, self), seconds
