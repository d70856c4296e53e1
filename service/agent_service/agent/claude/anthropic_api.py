"""Anthropic's own endpoint, or a gateway in its place."""

from collections.abc import Mapping, Sequence
from typing import Any

import anthropic
import httpx2

from agent_service.agent.claude.credentials import ApiKey, Credentials
from agent_service.agent.claude.endpoint import Call, Failure, Framing, Rewrite

ADDRESS = "https://api.anthropic.com"

_REWRITES = {call: Rewrite(call.value) for call in Call}
_PATHS = tuple(call.value for call in Call)


class AnthropicApi:
    """An `Endpoint` that takes calls as they are."""

    chats = True

    def __init__(self, credentials: Credentials[ApiKey], address: str = ADDRESS) -> None:
        """Take the key and the address."""
        self.address = address.rstrip("/")
        self.credentials = credentials

    def client(self, http_client: httpx2.AsyncClient, **options: Any) -> anthropic.AsyncAnthropic:
        """Return the SDK's client, whose key is set before each call."""
        return anthropic.AsyncAnthropic(api_key="", base_url=self.address, http_client=http_client, **options)

    def use(self, client: Any, credential: ApiKey) -> None:
        """Set the key, which the SDK reads for every request that it builds."""
        client.api_key = credential.value

    def rewrite(self, call: Call, model: str, *, streamed: bool = False, betas: Sequence[str] = ()) -> Rewrite:
        """Return the call as it is."""
        return _REWRITES[call]

    async def authorize(self, credential: ApiKey, url: str, content: bytes) -> dict[str, str]:
        """Return the key in the header that the API of the call expects."""
        if url.partition("?")[0].endswith(_PATHS):
            return {"x-api-key": credential.value}
        return {"Authorization": f"Bearer {credential.value}"}

    def failure(self, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
        """Return the response as it is."""
        return Failure(status, content)

    def framing(self, media_type: str) -> Framing | None:
        """Return None: the stream has server-sent events."""
        return None
