"""The endpoint of a Foundry resource, which speaks the Messages API; deployments are its models."""

from collections.abc import Mapping, Sequence
from typing import Any

import anthropic
import httpx2

from agent_service.agent.claude import statuses
from agent_service.agent.claude.credentials import ApiKey, Credentials, Token
from agent_service.agent.claude.endpoint import Call, Failure, Framing, Rewrite, failure, model_id

# The code for a route that the resource does not have. An unknown deployment has another.
_NO_SUCH_ROUTE = "404"


class Foundry:
    """An `Endpoint` for API keys of a resource, or for tokens of Microsoft Entra."""

    chats = False

    def __init__(
        self,
        credentials: Credentials[ApiKey | Token],
        *,
        resource: str | None = None,
        by_token: bool = False,
        address: str | None = None,
        model_ids: Mapping[str, str] | None = None,
    ) -> None:
        """Set up the endpoint.

        Args:
            credentials: the API key, or the tokens.
            by_token: whether they are tokens.
            resource: name of the resource.
            address: address of the resource, in place of its name.
            model_ids: names of deployments, by the names of the models.
        """
        self.address = (address or f"https://{resource}.services.ai.azure.com/anthropic").rstrip("/")
        self.credentials = credentials
        self._by_token = by_token
        self._token = ""
        self._model_ids = model_ids or {}

    def client(self, http_client: httpx2.AsyncClient, **options: Any) -> anthropic.AsyncAnthropic:
        """Return the SDK's client, whose key is set before each call."""
        kind: dict[str, Any] = {"azure_ad_token_provider": lambda: self._token} if self._by_token else {"api_key": ""}
        return anthropic.AsyncAnthropicFoundry(**kind, base_url=self.address, http_client=http_client, **options)

    def use(self, client: Any, credential: ApiKey | Token) -> None:
        """Set the key or the token, which the SDK reads for every request that it builds."""
        if isinstance(credential, Token):
            self._token = credential.value
            return
        client.api_key = credential.value

    def rewrite(self, call: Call, model: str, *, streamed: bool = False, betas: Sequence[str] = ()) -> Rewrite:
        """Return the call with the deployment of its model."""
        found = model_id(model, self._model_ids)
        return Rewrite(call.value, replaced={} if found == model else {"model": found})

    async def authorize(self, credential: ApiKey | Token, url: str, content: bytes) -> dict[str, str]:
        """Return the token, or the key in the two headers that the SDK sends."""
        if isinstance(credential, Token):
            return {"Authorization": f"Bearer {credential.value}"}
        return {"x-api-key": credential.value, "api-key": credential.value}

    def failure(self, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
        """Return an error of Azure in the form of the Messages API. Those of the model have it already."""
        error = statuses.about(content)
        if error is None:
            return Failure(status, content)
        if error["code"] == _NO_SUCH_ROUTE:
            # As a gateway without this call responds.
            return failure(status, None, str(error.get("message", "")))
        return statuses.of_status(status, error)

    def framing(self, media_type: str) -> Framing | None:
        """Return None: the stream has server-sent events."""
        return None
