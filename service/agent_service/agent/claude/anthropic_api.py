"""Anthropic's own endpoint, or a gateway in its place."""

from collections.abc import Mapping, Sequence
from typing import Any

import anthropic
import httpx2

from agent_service.agent.claude.credentials import ApiKey, Credentials, Token
from agent_service.agent.claude.endpoint import Call, Failure, Framing, Rewrite

ADDRESS = "https://api.anthropic.com"

# The beta feature that makes the API accept tokens (the SDK: lib/credentials/_constants.py).
OAUTH_BETA = "oauth-2025-04-20"

_REWRITES = {call: Rewrite(call.value) for call in Call}
_PATHS = tuple(call.value for call in Call)


class AnthropicApi:
    """An `Endpoint` that takes calls as they are, for API keys or for tokens of workload identity federation."""

    chats = True

    def __init__(
        self, credentials: Credentials[ApiKey | Token], address: str = ADDRESS, *, by_token: bool = False
    ) -> None:
        """Take the credentials and the address. `by_token` is whether the credentials are tokens."""
        self.address = address.rstrip("/")
        self.credentials = credentials
        self._by_token = by_token

    def client(self, http_client: httpx2.AsyncClient, **options: Any) -> anthropic.AsyncAnthropic:
        """Return the SDK's client, whose key is set before each call."""
        kind: dict[str, Any] = {"api_key": ""}
        if self._by_token:
            kind = {"auth_token": "", "default_headers": {"anthropic-beta": OAUTH_BETA}}
        return anthropic.AsyncAnthropic(**kind, base_url=self.address, http_client=http_client, **options)

    def use(self, client: Any, credential: ApiKey | Token) -> None:
        """Set the key or the token, which the SDK reads for every request that it builds."""
        if isinstance(credential, Token):
            client.auth_token = credential.value
        else:
            client.api_key = credential.value

    def rewrite(self, call: Call, model: str, *, streamed: bool = False, betas: Sequence[str] = ()) -> Rewrite:
        """Return the call as it is."""
        return _REWRITES[call]

    async def authorize(self, credential: ApiKey | Token, url: str, content: bytes) -> dict[str, str]:
        """Return the token, or the key in the header that the API of the call expects."""
        if isinstance(credential, Token):
            return {"Authorization": f"Bearer {credential.value}", "anthropic-beta": OAUTH_BETA}
        if url.partition("?")[0].endswith(_PATHS):
            return {"x-api-key": credential.value}
        return {"Authorization": f"Bearer {credential.value}"}

    def failure(self, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
        """Return the response as it is."""
        return Failure(status, content)

    def framing(self, media_type: str) -> Framing | None:
        """Return None: the stream has server-sent events."""
        return None
