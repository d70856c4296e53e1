"""The endpoint of Bedrock that speaks the Messages API itself, which newer models have: Claude in Amazon Bedrock."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2

from agent_service.agent.bedrock.endpoint import Bedrock
from agent_service.agent.bedrock.keys import AwsKeys
from agent_service.agent.claude.credentials import ApiKey, Credentials
from agent_service.agent.claude.endpoint import Call, Framing, Rewrite, model_id

if TYPE_CHECKING:
    from agent_service.agent.claude.endpoint import Client


class BedrockMessages(Bedrock):
    """An `Endpoint` for the same credentials as `Bedrock`. Calls differ from Anthropic's in the model's id only."""

    service = "bedrock-mantle"

    def __init__(
        self,
        credentials: Credentials[AwsKeys | ApiKey],
        *,
        region: str,
        signs: bool,
        address: str | None = None,
        model_ids: Mapping[str, str] | None = None,
    ) -> None:
        """Set up the endpoint: arguments as for `Bedrock`, and whether the credentials are access keys."""
        address = address or f"https://bedrock-mantle.{region}.api.aws/anthropic"
        super().__init__(credentials, region=region, address=address, model_ids=model_ids)
        self._signs = signs

    def client(self, http_client: httpx2.AsyncClient, **options: Any) -> "Client":
        """Return the SDK's client, whose credential is set before each call."""
        # By these it chooses how to authorize requests.
        kind: dict[str, Any] = {"aws_access_key": "", "aws_secret_key": ""} if self._signs else {"api_key": ""}
        return anthropic.AsyncAnthropicBedrockMantle(
            **kind, aws_region=self.region, base_url=self.address, http_client=http_client, **options
        )

    def rewrite(self, call: Call, model: str, *, streamed: bool = False, betas: Sequence[str] = ()) -> Rewrite:
        """Return the call with the id of its model. The header with beta features is sent as it is."""
        found = model_id(model, self.model_ids)
        return Rewrite(call.value, replaced={} if found == model else {"model": found})

    def framing(self, media_type: str) -> Framing | None:
        """Return None: the stream has server-sent events."""
        return None
