"""The course of a call: body, model, limits, model API, answer, account."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from agent_service.agent.messages import CHARACTERS_PER_TOKEN, Usage
from agent_service.agent.provider import Waiting
from agent_service.agent.turns import Turn
from agent_service.gateway import question as questions
from agent_service.gateway.accounts import Accounts, outcome_of
from agent_service.gateway.admission import Admission
from agent_service.gateway.bodies import Bodies, Held
from agent_service.gateway.forms import Form, RefusedError
from agent_service.gateway.meter import Meter, asked
from agent_service.gateway.model_api import ModelApi
from agent_service.gateway.question import Question, UnreadableError
from agent_service.gateway.relay import relay
from agent_service.limits.limits import Limits
from agent_service.telemetry.metrics import Metrics

_INVALID = "invalid_request_error"

# A larger body is searched in a thread, so that probes and streams go on.
_LONG_SEARCH_BYTES = 2**18

# Outcomes of calls whose question the model API works on, or has worked on.
_SENT = frozenset({"ok", "cancelled", "timed_out"})


@dataclass(frozen=True, slots=True)
class Terms:
    """What calls may do: the models, the most tokens of an answer, and whether prompts are marked for the cache."""

    models: tuple[str, ...]
    most_tokens: int
    marks: bool


class Calls:
    """Makes the calls of one process."""

    def __init__(
        self,
        model_api: ModelApi,
        accounts: Accounts,
        limits: Limits,
        metrics: Metrics,
        terms: Terms,
        *,
        waiting: Waiting,
    ) -> None:
        """Set up the calls.

        Args:
            model_api: the model API, or the echo in its place.
            accounts: counts the calls.
            limits: the limits of the agent.
            metrics: counts the refusals.
            terms: what calls may do.
            waiting: returns a context that is entered while a call waits because it was throttled.
        """
        self.terms = terms
        self._model_api = model_api
        self._accounts = accounts
        self._admission = Admission(limits, metrics, waiting)
        self._waiting = waiting
        self.bodies = Bodies()

    async def close(self) -> None:
        """Close the connections to the model API."""
        await self._model_api.close()

    async def count_tokens(self, request: web.BaseRequest) -> web.StreamResponse:
        """Count the tokens of a question, which costs nothing.

        Raises:
            RefusedError: when the call is not made.
        """
        with self.bodies.holding() as held:
            question = await self._question(request, held, mark=False)
            reply = await self._model_api.count_tokens(_path(request), request.headers, question, self._waiting)
        response, _ = await relay(request, reply, None)
        return response

    async def ask(self, request: web.BaseRequest, form: Form, turn: Turn | None) -> web.StreamResponse:
        """Ask the model, on the account of a turn if one is known.

        Raises:
            RefusedError: when the call is not made, or has failed without an answer of the model API.
            ConnectionError: when the caller has left.
        """
        with self.bodies.holding() as held:
            # In a list, from which the question is taken once it is answered: an answer may last for minutes, and its
            # question has up to LARGEST_BYTES.
            mark = form is Form.MESSAGES and self.terms.marks and self._model_api.marks
            pending = [await self._question(request, held, mark=mark)]
            await self._admission.admit(None if turn is None else turn.client)
            return await self._accounted(request, form, turn, held=held, pending=pending)

    async def _accounted(
        self, request: web.BaseRequest, form: Form, turn: Turn | None, *, held: Held, pending: list[Question]
    ) -> web.StreamResponse:
        model, characters = pending[0].model, asked(pending[0].content)
        usage, outcome, started = Usage(), "cancelled", time.perf_counter()
        meter: Meter | None = None
        with self._accounts.span(model, request.headers, turn, streamed=pending[0].streamed) as span:
            try:
                reply = await self._model_api.call(_path(request), request.headers, pending[0], form, self._waiting)
                pending.clear()
                held.release()
                usage.provider, usage.model = reply.provider, reply.model
                read = math.ceil(characters / CHARACTERS_PER_TOKEN)
                usage.given_up += [Usage(uncached_tokens=read, provider=name) for name in reply.given_up]
                if reply.ok:
                    meter = Meter(usage, form, events=reply.events)
                else:
                    outcome = outcome_of(reply.status)
                response, complete = await relay(request, reply, meter)
                if reply.ok:
                    outcome = "ok" if complete else "failed"
            except RefusedError as refused:
                outcome = refused.outcome
                raise
            except ConnectionError:
                # The caller has left, as when the call is cancelled.
                raise
            except Exception:
                outcome = "error"
                raise
            else:
                return response
            finally:
                received = meter is not None or outcome in _SENT
                (meter or Meter(usage, form, events=False)).finish(characters if received else 0)
                self._accounts.close(model, outcome, usage, started=started, span=span, turn=turn)

    async def _question(self, request: web.BaseRequest, held: Held, *, mark: bool) -> Question:
        body = await held.read(request)
        try:
            question = await _in_background_if_long(
                body, lambda: questions.read(body, most_tokens=self.terms.most_tokens, mark=mark)
            )
        except UnreadableError as error:
            raise RefusedError(400, _INVALID, str(error)) from None
        if question.model not in self.terms.models:
            allowed = ", ".join(self.terms.models)
            message = f"model: this agent may not call this model. It may call: {allowed}."
            raise RefusedError(404, "not_found_error", message)
        return question


def _path(request: web.BaseRequest) -> str:
    """Return the path and query of a request, as received."""
    query = request.rel_url.raw_query_string
    return f"{request.rel_url.raw_path}?{query}" if query else request.rel_url.raw_path


async def _in_background_if_long(body: bytes, search: Callable[[], Question]) -> Question:
    return search() if len(body) <= _LONG_SEARCH_BYTES else await asyncio.to_thread(search)
