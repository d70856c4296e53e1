"""One turn with the model or the runtime, limited in time and counted."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import structlog
from opentelemetry.trace import Span

from agent_service.agent.account import Account
from agent_service.agent.details import text_of
from agent_service.agent.errors import ModelError, TimedOutError
from agent_service.agent.messages import Prompt, Usage
from agent_service.agent.provider import Provider, Waiting
from agent_service.agent.tools import Event, Piece
from agent_service.agent.tracing import TurnSpans, finish
from agent_service.telemetry.redact import for_log

_log = structlog.get_logger(__name__)

OnPiece = Callable[[Piece], Awaitable[None]]
_OnAny = Callable[[Event], Awaitable[None]]


class Agent:
    """Answers messages with one provider."""

    def __init__(
        self,
        provider: Provider,
        account: Account,
        *,
        system_prompt: Callable[[], str | None],
        timeout_seconds: float,
        stream_seconds: float | None = None,
        waiting: Waiting,
        spans: TurnSpans,
        log_content: bool = False,
    ) -> None:
        """Set up an agent. Every turn is counted, whatever its outcome.

        Args:
            provider: the source of the answers.
            account: counts the turns.
            system_prompt: returns the current system prompt, for prompts without one of their own.
            timeout_seconds: limit of a turn in seconds; for a streamed turn, the longest silence of the provider.
            stream_seconds: limit of a streamed turn in seconds; `timeout_seconds` when unset or lower.
            waiting: returns a context that is entered while a turn waits because the model API throttled it.
            spans: traces the turns.
            log_content: whether to log messages and answers.
        """
        self._spans = spans
        self._log_content = log_content
        self._waiting = waiting
        self._provider = provider
        self._account = account
        self._system_prompt = system_prompt
        self._timeout_seconds = timeout_seconds
        self._stream_seconds = max(timeout_seconds, stream_seconds or 0.0)

    async def answer(self, prompt: Prompt, on_piece: _OnAny, *, streamed: bool = False) -> Usage:
        """Ask the provider, pass each piece of its answer to `on_piece`, and return the token usage.

        A prompt without a system prompt of its own gets the agent's, to which the client's instructions are
        appended. The earlier deadline of prompt and turn applies.
        The time limit covers the whole turn: connecting, waiting, retrying and streaming. A `streamed` turn has a
        longer limit, and a second one for the silence of the provider. Cancelling ends the provider's work.

        Raises:
            ModelError: when the answer is missing or incomplete.
        """
        most = self._stream_seconds if streamed else self._timeout_seconds
        deadline = time.time() + most
        if prompt.deadline is not None:
            deadline = min(deadline, prompt.deadline)
        with self._spans.start() as span:
            system = _with_instructions(prompt.system or self._system_prompt(), prompt.details.instructions)
            whole = replace(prompt, system=system, deadline=deadline)
            return await self._watched(whole, on_piece, span, most)

    async def _watched(self, prompt: Prompt, on_piece: _OnAny, span: Span, most: float) -> Usage:
        usage = Usage()
        silence = _Silence(self._timeout_seconds)
        outcome = "cancelled"
        detail: dict[str, str | None] = {}
        started = time.perf_counter()
        try:
            async with asyncio.timeout(most) as timeout:
                if most > self._timeout_seconds:
                    silence.watch(timeout)
                await self._stream(prompt, usage, on_piece, started, span, silence=silence)
            outcome = "ok"
        except TimeoutError:
            outcome = TimedOutError.outcome
            if silence.too_long:
                raise TimedOutError(self._silent()) from None
            raise TimedOutError(f"{self._account.answerer} did not finish within {most:g} seconds.") from None
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
        self, prompt: Prompt, usage: Usage, on_piece: _OnAny, started: float, span: Span, *, silence: "_Silence"
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
                    if isinstance(piece, str):
                        usage.characters += len(piece)
                        if self._log_content:
                            received.append(piece)
                    await on_piece(piece)
                    silence.begins()
        finally:
            if self._log_content:
                _log.info("Model answered", answer="".join(received))

    def _silent(self) -> str:
        return f"{self._account.sender} sent nothing for {self._timeout_seconds:g} seconds."

    def _count(self, outcome: str, prompt: Prompt, usage: Usage, seconds: float, detail: dict[str, str | None]) -> None:
        account = self._account
        account.count(outcome, prompt, usage, seconds)
        if outcome not in {"ok", "cancelled"}:
            known = {name: value for name, value in detail.items() if value is not None}
            if "upstream" in known:
                known["upstream"] = for_log(known["upstream"], private=_words(prompt))
            _log.warning(account.failed, **account.labels, outcome=outcome, seconds=round(seconds, 3), **known)


class _Silence:
    """Ends a turn in which the provider sends nothing for too long. Time that a client takes does not count.

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
        """Start the clock: the next piece is up to the provider."""
        self._since = time.monotonic()

    def end(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()


def _with_instructions(system: str | None, instructions: str | None) -> str | None:
    return "\n\n".join(part for part in (system, instructions) if part) or None


def _words(prompt: Prompt) -> list[str]:
    """Return the texts of a prompt, which must not be logged even where an error message quotes them."""
    earlier = [text for exchange in prompt.history for text in (exchange.user, exchange.assistant)]
    sent = [text_of(message) for message in prompt.details.earlier or ()]
    return [prompt.message, prompt.system or "", *earlier, *sent]
