"""Temporary keys of AWS for the pod's token: AssumeRoleWithWebIdentity (as for IRSA), and EKS Pod Identity.

botocore writes the request to STS and reads the answer; the agent's own HTTP session sends it, with its proxy and
certificates. botocore's own providers would block, and renew by rules of their own.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from botocore.exceptions import BotoCoreError
from botocore.parsers import ResponseParserError, create_parser
from botocore.serialize import create_serializer
from botocore.session import Session

from agent_service.agent.bedrock.keys import AwsKeys
from agent_service.agent.identity import failures
from agent_service.agent.identity.requests import Answer, get_directly, post
from agent_service.agent.identity.service_account_token import ServiceAccountToken

_STS = "AWS STS"
_STS_WORDS = (
    (r"audience", "audience_refused"),
    (
        r"No OpenIDConnect provider|IDPCommunicationError|verification key|certificate|thumbprint|issuer",
        "issuer_refused",
    ),
    (r"ExpiredToken|is expired|not yet valid", "identity_token_expired"),
    (r"AccessDenied|Not authorized", "identity_not_trusted"),
)
_AGENT = "the EKS Pod Identity Agent"
_AGENT_WORDS = (
    (r"audience", "audience_refused"),
    (r"Expired|is expired", "identity_token_expired"),
    (r"AccessDenied|ResourceNotFound|association|not authorized", "identity_not_trusted"),
)


@dataclass(frozen=True, slots=True)
class WebIdentity:
    """The role that trusts the pod's token, and the address of STS."""

    role_arn: str
    session_name: str
    address: str

    async def exchange(self, token: ServiceAccountToken) -> tuple[AwsKeys, float]:
        """Return keys of the role, and the seconds that they live. Errors as `agent.errors`."""
        operation, protocol = await asyncio.to_thread(_operation)
        asked = {"RoleArn": self.role_arn, "RoleSessionName": self.session_name, "WebIdentityToken": token.text}
        request = create_serializer(protocol).serialize_to_request(asked, operation)
        answer = await post(f"{self.address}/", _STS, form=request["body"], headers=request["headers"])
        answer.check(_STS_WORDS)
        received = {"status_code": answer.status, "headers": {}, "body": answer.content, "context": {}}
        try:
            found = create_parser(protocol).parse(received, operation.output_shape)["Credentials"]
            return _keys(found, "SessionToken", found["Expiration"], answer, self)
        except (ResponseParserError, BotoCoreError, LookupError, TypeError, ValueError, AttributeError):
            # Its text quotes the answer.
            raise failures.unreadable(_STS) from None


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """The association of the ServiceAccount with a role, which the node's agent knows. `url` is where it answers."""

    url: str

    async def exchange(self, token: ServiceAccountToken) -> tuple[AwsKeys, float]:
        """Return keys of the role, and the seconds that they live. Errors as `agent.errors`."""
        # It is on the node, where no proxy leads.
        answer = await get_directly(self.url, _AGENT, headers={"Authorization": token.text})
        answer.check(_AGENT_WORDS)
        found = answer.object()
        try:
            return _keys(found, "Token", datetime.fromisoformat(found["Expiration"]), answer, self)
        except (LookupError, TypeError, ValueError):
            raise failures.unreadable(_AGENT) from None


@lru_cache(maxsize=1)
def _operation() -> tuple[Any, str]:
    """Return botocore's description of the operation, and the name of the protocol."""
    service = Session().get_service_model("sts")
    return service.operation_model("AssumeRoleWithWebIdentity"), service.metadata["protocol"]


def _keys(
    found: dict[str, Any], token: str, expires: datetime, answer: Answer, origin: WebIdentity | PodIdentity
) -> tuple[AwsKeys, float]:
    access_key, secret_key, session_token = (found[name] for name in ("AccessKeyId", "SecretAccessKey", token))
    if not all(isinstance(each, str) and each for each in (access_key, secret_key, session_token)):
        raise ValueError("keys are missing")
    return AwsKeys(access_key, secret_key, session_token, origin), answer.seconds_until(expires)
