"""One turn with the model, limited in time and counted."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import structlog
from opentelemetry.trace import Span

from agent_service.agent.errors import OUTCOMES, ModelError, TimedOutError
from agent_service.agent.messages import CHARACTERS_PER_TOKEN, Prompt, Usage
from agent_service.agent.provider import Provider, Waiting
from agent_service.agent.tracing import TurnSpans, finish
from agent_service.telemetry.exposition import exemplar
from agent_service.telemetry.metrics import Metrics
from agent_service.telemetry.redact import for_log

_log = structlog.get_logger(__name__)

# Outcomes of turns that the model works on, or has worked on.
_SENT = frozenset({"ok", "cancelled", TimedOutError.outcome})

OnText = Callable[[str], Awaitable[None]]


class Agent:
    """Answers messages with one provider."""

    def __init__(
        self,
        provider: Provider,
        metrics: Metrics,
        *,
        system_prompt: Callable[[], str | None],
        timeout_seconds: float,
        stream_seconds: float | None = None,
        charge: Callable[[Usage], None],
        waiting: Waiting,
        spans: TurnSpans,
        log_content: bool = False,
    ) -> None:
        """Set up an agent. Every turn is counted and charged, whatever its outcome.

        Args:
            provider: the source of the answers.
            metrics: counts the turns.
            system_prompt: returns the current system prompt, for prompts without one of their own.
            timeout_seconds: limit of a turn in seconds; for a streamed turn, the longest silence of the model API.
            stream_seconds: limit of a streamed turn in seconds; `timeout_seconds` when unset or lower.
            charge: called with the usage of each turn.
            waiting: returns a context that is entered while a turn waits because the model API throttled it.
            spans: traces the turns.
            log_content: whether to log messages and answers.
        """
        self._spans = spans
        self._log_content = log_content
        self._charge = charge
        self._waiting = waiting
        self._provider = provider
        self._metrics = metrics
        self._system_prompt = system_prompt
        self._timeout_seconds = timeout_seconds
        self._stream_seconds = max(timeout_seconds, stream_seconds or 0.0)
        # Created up front: Prometheus sees no increase in a series that first appears with a value.
        for outcome in ("ok", "cancelled", *OUTCOMES):
            metrics.model_requests.labels(provider.model, outcome)

    async def answer(self, prompt: Prompt, on_text: OnText, *, streamed: bool = False) -> Usage:
        """Ask the model, pass each piece of its answer to `on_text`, and return the token usage.

        A prompt without a system prompt of its own gets the agent's.
        The time limit covers the whole turn: connecting, waiting, retrying and streaming. A `streamed` turn has a
        longer limit, and a second one for the silence of the model API. Cancelling ends the model's work.

        Raises:
            ModelError: when the answer is missing or incomplete.
        """
        with self._spans.start() as span:
            whole = replace(prompt, system=prompt.system or self._system_prompt())
            return await self._watched(whole, on_text, span, streamed=streamed)

    async def _watched(self, prompt: Prompt, on_text: OnText, span: Span, *, streamed: bool) -> Usage:
        usage = Usage()
        most = self._stream_seconds if streamed else self._timeout_seconds
        silence = _Silence(self._timeout_seconds)
        outcome = "cancelled"
        detail: dict[str, str | None] = {}
        started = time.perf_counter()
        try:
            async with asyncio.timeout(most) as timeout:
                if most > self._timeout_seconds:
                    silence.watch(timeout)
                await self._stream(prompt, usage, on_text, started, span, silence=silence)
            outcome = "ok"
        except TimeoutError:
            outcome = TimedOutError.outcome
            if silence.too_long:
                raise TimedOutError(f"The model API sent nothing for {self._timeout_seconds:g} seconds.") from None
            raise TimedOutError(f"The model did not finish within {most:g} seconds.") from None
        except ModelError as error:
            outcome = error.outcome
            detail = {"kind": error.kind, "upstream": error.upstream}
            raise
        except Exception:
            outcome = ModelError.outcome
            raise
        finally:
            silence.end()
            self._count(outcome, prompt, usage, time.perf_counter() - started, detail)
            finish(span, outcome, usage)
        return usage

    async def _stream(
        self, prompt: Prompt, usage: Usage, on_text: OnText, started: float, span: Span, *, silence: "_Silence"
    ) -> None:
        first = True
        received: list[str] = []
        if self._log_content:
            _log.info("Message was sent to the model", message=prompt.message)
        try:
            async with aclosing(self._provider.stream(prompt, usage, self._waiting)) as pieces:
                async for piece in pieces:
                    if not piece:
                        silence.begins()
                        continue
                    silence.broken()
                    if first:
                        span.set_attribute("gen_ai.response.time_to_first_chunk", time.perf_counter() - started)
                        first = False
                    usage.characters += len(piece)
                    if self._log_content:
                        received.append(piece)
                    await on_text(piece)
                    silence.begins()
        finally:
            if self._log_content:
                _log.info("Model answered", answer="".join(received))

    def _count(self, outcome: str, prompt: Prompt, usage: Usage, seconds: float, detail: dict[str, str | None]) -> None:
        if not usage.output_known:
            # The model API counts at the end. An answer that was cut short is paid for, but only an estimate of it is
            # possible. Gateways may omit the counts.
            usage.output_tokens = max(usage.output_tokens, math.ceil(usage.characters / CHARACTERS_PER_TOKEN))
        if ((outcome in _SENT and usage.sent) or usage.characters) and not usage.input_tokens:
            usage.uncached_tokens = math.ceil(prompt.characters / CHARACTERS_PER_TOKEN)
        self._charge(usage)
        model = self._provider.model
        self._metrics.model_requests.labels(model, outcome).inc()
        self._metrics.model_duration.labels(model).observe(seconds, exemplar())
        self._metrics.tokens.labels(model, "input").inc(usage.input_tokens)
        self._metrics.tokens.labels(model, "output").inc(usage.output_tokens)
        if outcome not in {"ok", "cancelled"}:
            known = {name: value for name, value in detail.items() if value is not None}
            if "upstream" in known:
                known["upstream"] = for_log(known["upstream"], private=_words(prompt))
            _log.warning("Turn with the model failed", model=model, outcome=outcome, seconds=round(seconds, 3), **known)


class _Silence:
    """Ends a turn in which the model API sends nothing for too long. Time that a client takes does not count.

    A stream has many pieces per second. Each one only records the time, and a single timer checks it at intervals.
    """

    def __init__(self, seconds: float) -> None:
        self.too_long = False
        self._seconds = seconds
        self._since = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, timeout: asyncio.Timeout) -> None:
        """Make `timeout` expire when the silence is too long."""
        left = self._since + self._seconds - time.monotonic()
        if left <= 0:
            self.too_long = True
            timeout.reschedule(asyncio.get_running_loop().time())
            return
        # `left` is infinite while a piece is being passed to the client.
        self._timer = asyncio.get_running_loop().call_later(min(left, self._seconds), self.watch, timeout)

    def broken(self) -> None:
        """Stop the clock: data has arrived and is being passed to the client."""
        self._since = math.inf

    def begins(self) -> None:
        """Start the clock: the next piece is up to the model API."""
        self._since = time.monotonic()

    def end(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()


def _words(prompt: Prompt) -> list[str]:
    """Return the texts of a prompt, which must not be logged even where an error message quotes them."""
    earlier = [text for exchange in prompt.history for text in (exchange.user, exchange.assistant)]
    return [prompt.message, prompt.system or "", *earlier]
