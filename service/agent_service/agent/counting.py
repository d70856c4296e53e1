"""The number of tokens that a question has, counted before it is asked."""

from typing import Protocol, TypeGuard

from agent_service.agent.messages import Prompt
from agent_service.agent.provider import Provider
from agent_service.agent.step import Step, StepProvider


class CountingProvider(Provider, Protocol):
    """A provider that can count the tokens of a question at no cost."""

    async def count(self, prompt: Prompt) -> int | None:
        """Return the tokens that the model would receive; None if they cannot be counted.

        Raises:
            ModelError: when the model API fails, or refuses the question.
        """
        ...


class CountingStepProvider(StepProvider, Protocol):
    """A provider that can count the tokens of a step."""

    async def count_step(self, step: Step) -> int | None:
        """Return the tokens that the model would receive, as `CountingProvider.count` does."""
        ...


def can_count(provider: Provider) -> TypeGuard[CountingProvider]:
    """Return whether a provider counts the tokens of questions."""
    return hasattr(provider, "count")


def can_count_steps(provider: StepProvider) -> TypeGuard[CountingStepProvider]:
    """Return whether a provider counts the tokens of steps."""
    return hasattr(provider, "count_step")
