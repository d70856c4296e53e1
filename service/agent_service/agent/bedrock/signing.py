"""Signs requests to AWS with Signature Version 4, by botocore."""

import asyncio

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from agent_service.agent.bedrock.keys import AwsKeys
from agent_service.agent.claude.endpoint import LONG_BYTES

# What the signature includes besides the host, the time and the body: proxies may change any other header.
_SIGNED = {"Content-Type": "application/json"}


async def signature(keys: AwsKeys, region: str, service: str, *, url: str, content: bytes) -> dict[str, str]:
    """Return the headers that sign a POST request to a service now."""
    if len(content) <= LONG_BYTES:
        return _signature(keys, region, service, url, content)
    # A large body takes long to hash.
    return await asyncio.to_thread(_signature, keys, region, service, url, content)


def _signature(keys: AwsKeys, region: str, service: str, url: str, content: bytes) -> dict[str, str]:
    request = AWSRequest(method="POST", url=url, headers=_SIGNED, data=content)
    SigV4Auth(Credentials(keys.access_key, keys.secret_key, keys.session_token), service, region).add_auth(request)
    return {name: str(value) for name, value in request.headers.items()}
