"""The endpoint of Amazon Bedrock Runtime: InvokeModel, InvokeModelWithResponseStream and CountTokens."""

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anthropic
import httpx2
import orjson

from agent_service.agent.bedrock import errors
from agent_service.agent.bedrock.frames import MEDIA_TYPE, Frames
from agent_service.agent.bedrock.keys import AwsKeys
from agent_service.agent.bedrock.signing import signature
from agent_service.agent.claude.credentials import ApiKey, Credentials
from agent_service.agent.claude.endpoint import Call, Failure, Framing, Rewrite, model_id

if TYPE_CHECKING:
    from agent_service.agent.claude.endpoint import Client

# The value in the documentation of Bedrock ("Inference using Anthropic Messages API"). The SDK's own default is that of
# Anthropic's API, which models with a versioned id refuse (Claude docs, "Claude on Amazon Bedrock").
_VERSION = "bedrock-2023-05-31"

_IN_THE_PATH = frozenset({"model", "stream"})


class Bedrock:
    """An `Endpoint` for access keys of AWS or for an API key of Bedrock."""

    chats = False
    service = "bedrock"
    """The name of the service in signatures."""

    def __init__(
        self,
        credentials: Credentials[AwsKeys | ApiKey],
        *,
        region: str,
        address: str | None = None,
        model_ids: Mapping[str, str] | None = None,
    ) -> None:
        """Set up the endpoint.

        Args:
            credentials: the access keys, or the API key.
            region: region of AWS.
            address: address of the service, if not that of the region.
            model_ids: ids of models or inference profiles, by the names of the models.
        """
        self.address = (address or f"https://bedrock-runtime.{region}.amazonaws.com").rstrip("/")
        self.credentials = credentials
        self.region = region
        self.model_ids = model_ids or {}

    def client(self, http_client: httpx2.AsyncClient, **options: Any) -> "Client":
        """Return the SDK's client, whose credential is set before each call."""
        return anthropic.AsyncAnthropicBedrock(
            # With a value, it reads no credential from the environment.
            api_key="",
            aws_region=self.region,
            base_url=self.address,
            http_client=http_client,
            **options,
        )

    def use(self, client: Any, credential: AwsKeys | ApiKey) -> None:
        """Set the credential, which the SDK reads for every request that it sends."""
        if isinstance(credential, ApiKey):
            client.api_key = credential.value
            return
        client.api_key = None
        client.aws_access_key = credential.access_key
        client.aws_secret_key = credential.secret_key
        client.aws_session_token = credential.session_token

    def rewrite(self, call: Call, model: str, *, streamed: bool = False, betas: Sequence[str] = ()) -> Rewrite:
        """Return the operation for a call."""
        added: dict[str, object] = {"anthropic_version": _VERSION}
        if betas:
            added["anthropic_beta"] = list(betas)
        # A profile may be an ARN, whose slash is part of the name.
        place = f"/model/{quote(model_id(model, self.model_ids), safe=':')}"
        if call is Call.COUNT_TOKENS:
            # The body is that of a call, which has a limit of tokens.
            return Rewrite(
                f"{place}/count-tokens",
                _IN_THE_PATH,
                added={**added, "max_tokens": 1},
                enclose=_enclosed,
                disclose=_count,
            )
        return Rewrite(f"{place}/{'invoke-with-response-stream' if streamed else 'invoke'}", _IN_THE_PATH, added=added)

    async def authorize(self, credential: AwsKeys | ApiKey, url: str, content: bytes) -> dict[str, str]:
        """Return the signature of a request, or the API key."""
        if isinstance(credential, ApiKey):
            return {"Authorization": f"Bearer {credential.value}"}
        return await signature(credential, self.region, self.service, url=url, content=content)

    def failure(self, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
        """Return an error of AWS in the form of the Messages API."""
        return errors.of_response(status, headers, content)

    def framing(self, media_type: str) -> Framing | None:
        """Return what unpacks the event stream of AWS."""
        return Frames().feed if media_type == MEDIA_TYPE else None


def _enclosed(body: bytes) -> bytes:
    return orjson.dumps({"input": {"invokeModel": {"body": base64.b64encode(body).decode()}}})


def _count(body: bytes) -> bytes:
    return orjson.dumps({"input_tokens": orjson.loads(body)["inputTokens"]})
