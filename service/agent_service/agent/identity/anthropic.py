"""Workload identity federation of Anthropic, by the SDK's own client for it."""

import asyncio
import time
from dataclasses import dataclass

import httpx2
from anthropic import AnthropicError
from anthropic.lib.credentials import WorkloadIdentityCredentials, WorkloadIdentityError

from agent_service.agent.claude import connection
from agent_service.agent.claude.credentials import Token
from agent_service.agent.errors import ModelError, ModelFailedError, OverloadedError, TimedOutError
from agent_service.agent.identity import failures
from agent_service.agent.identity.requests import TIMEOUT_SECONDS, skew_seconds
from agent_service.agent.identity.service_account_token import ServiceAccountToken

_PLACE = "Anthropic's token service"
_WORDS = (
    (r"\baud(ience)?\b", "audience_refused"),
    (r"issuer|jwks|\biss\b", "issuer_refused"),
    (r"expired|\bexp\b|\biat\b|\bnbf\b|not yet valid", "identity_token_expired"),
    (r"rule|subject|\bsub\b|service.?account|workspace", "identity_not_trusted"),
)
_FAILED, _TOO_MANY = 500, 429


@dataclass(frozen=True, slots=True)
class AnthropicIdentity:
    """The rule by which the organization trusts the pod's token. `address` is that of the token service."""

    federation_rule_id: str
    organization_id: str
    service_account_id: str | None
    workspace_id: str | None
    address: str

    async def exchange(self, token: ServiceAccountToken) -> tuple[Token, float]:
        """Return a token of the API, and the seconds that it lives. Errors as `agent.errors`."""
        # The SDK's client waits for its answer, so it has a thread.
        value, expires = await asyncio.to_thread(self._exchanged, token)
        seconds = expires - time.time()
        if not value or seconds <= 0:
            raise failures.unreadable(_PLACE)
        return Token(value, self), seconds

    def _exchanged(self, token: ServiceAccountToken) -> tuple[str, float]:
        skews: list[float] = []
        observed = {"response": [lambda response: skews.append(skew_seconds(response.headers.get("Date")))]}
        with httpx2.Client(timeout=TIMEOUT_SECONDS, event_hooks=observed) as client:
            credentials = WorkloadIdentityCredentials(
                identity_token_provider=lambda: token.text,
                federation_rule_id=self.federation_rule_id,
                organization_id=self.organization_id,
                service_account_id=self.service_account_id,
                workspace_id=self.workspace_id,
                http_client=client,
            )
            try:
                found = credentials.for_base_url(self.address)()
            except AnthropicError as error:
                raise _error(error, skews[-1] if skews else 0.0) from error
        return str(found.token or ""), float(found.expires_at or 0)


def _error(error: AnthropicError, skew: float) -> ModelError:
    status = error.status_code if isinstance(error, WorkloadIdentityError) else None
    if status is None:
        cause = error.__cause__ or error
        if isinstance(cause, httpx2.TimeoutException) and not isinstance(cause, httpx2.ConnectTimeout):
            return TimedOutError("Anthropic's token service did not answer in time.", upstream=str(cause))
        if isinstance(cause, httpx2.HTTPError):
            return connection.failed(cause, _PLACE)
        return failures.unreadable(_PLACE) if isinstance(error, WorkloadIdentityError) else _unusable(error)
    if status >= _FAILED or status == _TOO_MANY:
        return OverloadedError("Anthropic's token service is overloaded; try again later.", upstream=str(error))
    if status < 400:  # noqa: PLR2004
        return failures.unreadable(_PLACE)
    # The rest of the message is the SDK's own advice, which names all reasons.
    said = getattr(error, "body", None)
    found = failures.of_answer(str(said), _PLACE, _WORDS, skew_seconds=skew)
    found.upstream = str(error)
    return found


def _unusable(error: AnthropicError) -> ModelError:
    return ModelFailedError(
        "Anthropic's token service cannot be used at its address, which must begin with https://.",
        kind="protocol",
        upstream=str(error),
    )
