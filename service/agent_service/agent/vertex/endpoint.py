"""The endpoint of Vertex AI: rawPredict and streamRawPredict of Anthropic's models."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import anthropic
import httpx2

from agent_service.agent.claude import statuses
from agent_service.agent.claude.credentials import Credentials, Token
from agent_service.agent.claude.endpoint import Call, Failure, Framing, Rewrite, model_id

# The value in Google's documentation ("Use Anthropic's Claude models"); see `bedrock.endpoint`.
_VERSION = "vertex-2023-10-16"

# As the SDK: what may be in a segment of a path (RFC 3986, 3.3), but for `;`, at which some servers end it.
_SAFE = "!$&'()*+,=:@"


class Vertex:
    """An `Endpoint` for access tokens of Google Cloud."""

    chats = False

    def __init__(
        self,
        credentials: Credentials[Token],
        *,
        project: str,
        region: str,
        address: str | None = None,
        model_ids: Mapping[str, str] | None = None,
    ) -> None:
        """Set up the endpoint.

        Args:
            credentials: the access tokens.
            project: id of the project.
            region: location of the service: a region, a multi-region (`eu`, `us`) or `global`.
            address: address of the service, if not that of the location.
            model_ids: ids of models, by the names of the models.
        """
        self.address = _versioned(address) if address is not None else _address(region)
        self.credentials = credentials
        self._project = project
        self._region = region
        self._models = (
            f"/projects/{quote(project, safe=_SAFE)}/locations/{quote(region, safe=_SAFE)}/publishers/anthropic/models"
        )
        self._model_ids = model_ids or {}

    def client(self, http_client: httpx2.AsyncClient, **options: Any) -> anthropic.AsyncAnthropicVertex:
        """Return the SDK's client, whose token is set before each call."""
        return anthropic.AsyncAnthropicVertex(
            region=self._region,
            project_id=self._project,
            access_token="",
            base_url=self.address,
            http_client=http_client,
            **options,
        )

    def use(self, client: Any, credential: Token) -> None:
        """Set the token, which the SDK reads for every request that it sends."""
        client.access_token = credential.value

    def rewrite(self, call: Call, model: str, *, streamed: bool = False, betas: Sequence[str] = ()) -> Rewrite:
        """Return the method for a call. The header with beta features is sent as it is."""
        found = model_id(model, self._model_ids)
        added = {"anthropic_version": _VERSION}
        if call is Call.COUNT_TOKENS:
            return Rewrite(f"{self._models}/count-tokens:rawPredict", replaced={"model": found}, added=added)
        method = "streamRawPredict" if streamed else "rawPredict"
        return Rewrite(f"{self._models}/{quote(found, safe=_SAFE)}:{method}", frozenset({"model"}), added=added)

    async def authorize(self, credential: Token, url: str, content: bytes) -> dict[str, str]:
        """Return the token."""
        return {"Authorization": f"Bearer {credential.value}"}

    def failure(self, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
        """Return an error of Google in the form of the Messages API. Those of the model have it already."""
        error = statuses.about(content)
        return Failure(status, content) if error is None else statuses.of_status(status, error)

    def framing(self, media_type: str) -> Framing | None:
        """Return None: the stream has server-sent events."""
        return None


def _address(region: str) -> str:
    """Return the address of a location (Google, "Vertex AI locations"; as the SDK)."""
    if region == "global":
        return "https://aiplatform.googleapis.com/v1"
    if region in {"eu", "us"}:
        return f"https://aiplatform.{region}.rep.googleapis.com/v1"
    return f"https://{region}-aiplatform.googleapis.com/v1"


def _versioned(address: str) -> str:
    """Return an address with the version of the API, if it has no path."""
    return address.rstrip("/") if urlsplit(address).path.strip("/") else address.rstrip("/") + "/v1"
