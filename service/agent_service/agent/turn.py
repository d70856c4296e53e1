"""One turn with the model, within its time, counted."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import structlog

from agent_service.agent.errors import ModelError, TimedOutError
from agent_service.agent.provider import Prompt, Provider, Usage
from agent_service.metrics import Metrics

_log = structlog.get_logger(__name__)

OnText = Callable[[str], Awaitable[None]]

# Characters in a token of English text, roughly. The model API counts the answer at its end: of one that was cut, an
# estimate is all there is, and it was paid for.
_CHARACTERS_PER_TOKEN = 4


class Agent:
    """Answers messages with one provider."""

    def __init__(
        self,
        provider: Provider,
        metrics: Metrics,
        *,
        system_prompt: str | None,
        timeout_seconds: float,
        charge: Callable[[int], None],
    ) -> None:
        """Take what answers, and `charge`, which is told the tokens of each turn, whatever became of it."""
        self._charge = charge
        self._provider = provider
        self._metrics = metrics
        self._system_prompt = system_prompt
        self._timeout_seconds = timeout_seconds

    async def answer(self, prompt: Prompt, on_text: OnText) -> Usage:
        """Ask the model, hand each piece of its answer to `on_text`, and give the tokens that it took.

        A prompt with no system prompt of its own gets the agent's.
        The time limit is for the whole: connecting, waiting, retrying, streaming. Cancelling ends the model's work.

        Raises:
            ModelError: when there is no (whole) answer.
        """
        usage = Usage()
        outcome = "cancelled"
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._stream(replace(prompt, system=prompt.system or self._system_prompt), usage, on_text, begun)
            outcome = "ok"
        except TimeoutError:
            outcome = TimedOutError.outcome
            raise TimedOutError(f"The model did not finish within {self._timeout_seconds:g} seconds.") from None
        except ModelError as error:
            outcome = error.outcome
            raise
        except Exception:
            outcome = ModelError.outcome
            raise
        finally:
            self._count(outcome, usage, time.perf_counter() - begun)
        return usage

    async def _stream(self, prompt: Prompt, usage: Usage, on_text: OnText, begun: float) -> None:
        first = True
        async with aclosing(self._provider.stream(prompt, usage)) as pieces:
            async for piece in pieces:
                if first:
                    self._metrics.first_token.observe(time.perf_counter() - begun)
                    first = False
                usage.characters += len(piece)
                await on_text(piece)

    def _count(self, outcome: str, usage: Usage, seconds: float) -> None:
        if outcome != "ok":
            usage.output_tokens = max(usage.output_tokens, usage.characters // _CHARACTERS_PER_TOKEN)
        self._charge(usage.total)
        model = self._provider.model
        self._metrics.model_requests.labels(model, outcome).inc()
        self._metrics.model_duration.labels(model).observe(seconds)
        self._metrics.tokens.labels(model, "input").inc(usage.input_tokens)
        self._metrics.tokens.labels(model, "output").inc(usage.output_tokens)
        if outcome not in {"ok", "cancelled"}:
            _log.warning("Turn with the model failed", model=model, outcome=outcome, seconds=round(seconds, 3))
