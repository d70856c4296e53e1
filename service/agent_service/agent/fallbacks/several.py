"""The interface of a provider that is several, for what must not import the SDK."""

from typing import Protocol, TypeGuard

from agent_service.agent.provider import Provider

PROVIDER_HEADER = "X-Portside-Provider"
"""The header of an answer that says which provider gave it."""


class Several(Provider, Protocol):
    """A provider that asks several."""

    async def check_own(self) -> str:
        """Return that the agent's own provider answers; raise a ModelError if it does not."""
        ...

    @property
    def answers(self) -> str:
        """Which providers answered the latest check, as a sentence."""
        ...


def is_several(provider: Provider | None) -> TypeGuard[Several]:
    """Return whether a provider asks several."""
    return hasattr(provider, "check_own")
