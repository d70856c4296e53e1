"""Answers with the first provider of several that can."""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import orjson

from agent_service.agent.claude.provider import ClaudeProvider, step_of
from agent_service.agent.errors import (
    BudgetUsedUpError,
    CredentialsRefusedError,
    ModelError,
    ModelFailedError,
    NotOfferedError,
    RateLimitedError,
    TimedOutError,
    UnreachableError,
)
from agent_service.agent.fallbacks.places import Place, Places
from agent_service.agent.messages import CHARACTERS_PER_TOKEN, Prompt, Usage
from agent_service.agent.provider import Waiting
from agent_service.agent.step import Step

# What another provider may do better. All others are about the question, which would be refused there too.
_OF_PROVIDER = (RateLimitedError, ModelFailedError, UnreachableError, TimedOutError, CredentialsRefusedError)


class FallbackProvider:
    """A provider with tools that is several, of which the first one that answers is used for a call.

    A call goes on at the next provider until the first byte of content has arrived, and never after it.
    """

    def __init__(self, places: Places, providers: Sequence[ClaudeProvider], *, first_byte_seconds: float) -> None:
        """Take the places, and the provider of each.

        Args:
            places: the places.
            providers: the provider of each place.
            first_byte_seconds: limit of the time before the first byte of an answer, for all but the last provider.
        """
        self.model = places.all[0].model
        self._places = places
        self._providers = dict(zip((place.name for place in places.all), providers, strict=True))
        self._first_byte_seconds = first_byte_seconds
        self._of_own: ModelError | None = None
        self._answers = ""

    def stream(self, prompt: Prompt, usage: Usage, waiting: Waiting) -> AsyncGenerator[str]:
        """Yield the answer's text as it arrives, one piece per chunk, empty for a chunk without text."""
        return self.step(step_of(prompt), usage, waiting)

    async def step(self, step: Step, usage: Usage, waiting: Waiting) -> AsyncGenerator[str]:
        """Yield the answer's text as `stream` does, and fill the step's content if it has tools.

        If no provider answers, the error is that of the first one that was asked.
        """
        candidates = self._places.candidates(step.conversation)
        first: ModelError | None = None
        for number, place in enumerate(candidates):
            following = candidates[number + 1] if number + 1 < len(candidates) else None
            usage.provider, usage.model = place.name, place.model
            started = False
            try:
                async with aclosing(self._texts(place, step, usage, waiting, last=following is None)) as texts:
                    async for text in texts:
                        if not started and (text or step.content):
                            started = True
                            self._places.answered(place, place.model)
                        yield text
            except ModelError as error:
                reason = reason_of(error)
                if started or reason is None:
                    # What was sent already cannot be taken back, and a refused question was answered.
                    raise
                first = first or error
                self._places.failed(place, reason, _wait(error), following)
                if following is None:
                    raise first from error
                _estimate(usage, step, error)
                usage.give_up()
                continue
            if not started:
                self._places.answered(place, place.model)
            if usage.cache_write_tokens or usage.cache_read_tokens:
                self._places.remember(step.conversation, place)
            return

    async def _texts(
        self, place: Place, step: Step, usage: Usage, waiting: Waiting, *, last: bool
    ) -> AsyncGenerator[str]:
        """Yield the text of an answer at a place. The first byte has a limit of time if another place is left."""
        with self._places.asking(place):
            async with aclosing(self._providers[place.name].step(step, usage, waiting, last=last)) as texts:
                try:
                    async with asyncio.timeout(None if last else self._first_byte_seconds):
                        text = await anext(texts)
                except TimeoutError:
                    raise TimedOutError("The model API did not begin its answer in time.") from None
                except StopAsyncIteration:
                    return
                yield text
                async for text in texts:
                    yield text

    async def count(self, prompt: Prompt) -> int | None:
        """Return the tokens of a question; None if no provider counts them."""
        return await self.count_step(step_of(prompt))

    async def count_step(self, step: Step) -> int | None:
        """Return the tokens of a step, as `count` does."""
        first: ModelError | None = None
        candidates = self._places.candidates(step.conversation)
        for place in candidates:
            try:
                # It says nothing about the health of the others.
                return await self._providers[place.name].count_step(step, last=place is candidates[-1])
            except ModelError as error:
                if reason_of(error) is None:
                    raise
                first = first or error
        if first is None:
            raise AssertionError("There is always a place to ask.")
        raise first

    async def check(self) -> None:
        """Check all providers; raise the error of the agent's own if none of them can answer."""
        checks = (self._providers[place.name].check() for place in self._places.all)
        found = await asyncio.gather(*checks, return_exceptions=True)
        others = [error for error in found if isinstance(error, BaseException) and not isinstance(error, ModelError)]
        if others:
            raise others[0]
        errors = [error for error in found if isinstance(error, ModelError)]
        self._of_own = found[0] if isinstance(found[0], ModelError) else None
        self._answers = ", ".join(
            place.name for place, error in zip(self._places.all, found, strict=True) if error is None
        )
        if len(errors) == len(found):
            raise errors[0]

    async def check_own(self) -> str:
        """Return that the agent's own provider answers, by the latest check and calls; raise a ModelError if not."""
        own = self._places.all[0]
        if self._of_own is not None:
            raise self._of_own.with_traceback(None)
        if self._places.skips(own):
            raise ModelError("Its latest calls failed, so a fallback is asked first.", kind=own.circuit.reason)
        return f"The provider {own.name} answers for model {own.model}."

    @property
    def answers(self) -> str:
        """The providers that answered the latest check, as a description of the health of all."""
        return f"These providers answer: {self._answers}."

    async def close(self) -> None:
        """Close the pools of connections."""
        for provider in self._providers.values():
            await provider.close()


def reason_of(error: ModelError) -> str | None:
    """Return why another provider is asked after an error, as the label of the metrics; None if none is."""
    if isinstance(error, NotOfferedError):
        return "not_offered"
    if isinstance(error, BudgetUsedUpError) or not isinstance(error, _OF_PROVIDER):
        return None
    return error.outcome


def _wait(error: ModelError) -> float | None:
    return error.retry_after if isinstance(error, RateLimitedError) else None


def _estimate(usage: Usage, step: Step, error: ModelError) -> None:
    """Estimate the prompt of a call that took too long: the model may have read it."""
    if isinstance(error, TimedOutError) and usage.sent and not usage.input_tokens:
        size = len(orjson.dumps([step.messages, step.tools])) + len(step.system or "")
        usage.uncached_tokens = math.ceil(size / CHARACTERS_PER_TOKEN)
