"""The exchange of the pod's token, as a source of credentials."""

from collections.abc import Awaitable, Callable, Hashable
from pathlib import Path
from typing import TypeVar

from agent_service.agent.claude.credentials import Credential
from agent_service.agent.claude.renewal import Observe, Renewed, unobserved
from agent_service.agent.errors import ModelError
from agent_service.agent.identity.service_account_token import ServiceAccountToken, read_token

C = TypeVar("C", bound=Credential)


def exchanged(
    file: Path,
    origin: Hashable,
    exchange: Callable[[ServiceAccountToken], Awaitable[tuple[C, float]]],
    observe: Observe = unobserved,
) -> Renewed[C]:
    """Return credentials that are made from the pod's token, which is read again for each exchange.

    Args:
        file: the file of the token.
        origin: what the user configured. The token is no part of it: the kubelet replaces it, and a credential that
            was made from the one before remains valid.
        exchange: returns a credential for a token, and the seconds that it lives. Its errors are those of
            `agent.errors`.
        observe: is called with the result of each exchange.
    """

    async def made(_: Hashable) -> tuple[C, float]:
        token = read_token(file)
        try:
            return await exchange(token)
        except ModelError as error:
            # Token services quote what they refuse.
            said = (error.upstream or "").replace(token.text, "***")
            error.upstream = f"{said} ({token.described()})"
            raise

    return Renewed(lambda: origin, made, observe=observe)
