"""Turns that wait for approvals of tool calls, and the decisions.

Every change of a turn is one atomic script. A call is decided once, by the first decision. Once all calls of a turn
are decided or expired, exactly one process takes the turn and goes on with it.
"""

import asyncio
import json
import math
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from agent_service.agent.tools import Resumption, ToolResult
from agent_service.chat.approval_errors import (
    CannotWaitError,
    DecidedError,
    NotAllowedError,
    UnknownApprovalError,
)
from agent_service.chat.approval_record import (
    Place,
    Suspended,
    WaitingCall,
    parse_call_id,
    read_turn,
    resumed,
    waiting_calls,
    written_call,
    written_result,
    written_state,
)
from agent_service.state.redis import Redis
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.state.script import Script
from agent_service.telemetry.metrics import Metrics
from agent_service.telemetry.redact import printable

_log = structlog.get_logger(__name__)

_PUT, _DECIDE, _TAKE, _RELEASE, _KEEP, _END, _REMOVE, _COUNT = (
    Script(__package__, "approval", name)
    for name in (
        "put_turn",
        "decide_call",
        "take_turn",
        "release_turn",
        "keep_result",
        "end_turn",
        "remove_turn",
        "count_turns",
    )
)

# Each may have megabytes in Redis, and people decide on tens of them in an hour.
_MOST_WAITING = 1000
_LARGEST_BYTES = 16 * 1024 * 1024

# For the end of an answer, and commands to Redis.
_MARGIN_SECONDS = 10

# Interval of attempts to release a turn while Redis is unavailable.
_RELEASE_SECONDS = 0.5

_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True)
class Taken:
    """A turn that this process alone goes on with."""

    id: str
    token: str
    turn: Suspended
    resumption: Resumption


class Approvals:
    """The turns that wait. All methods raise StateUnavailableError when Redis is."""

    def __init__(
        self,
        redis: Redis,
        *,
        ttl_seconds: int,
        keep_seconds: int,
        longest_answer_seconds: float,
        approvers: frozenset[str],
        metrics: Metrics,
    ) -> None:
        """Take the store and the terms.

        Args:
            redis: the store.
            ttl_seconds: time within which a call must be decided.
            keep_seconds: time for which an expired turn is kept, so that it can go on.
            longest_answer_seconds: limit of the time that a process goes on with a turn of a conversation.
            approvers: clients that may decide; if empty, only the client that asked may.
            metrics: count decisions and damaged records.
        """
        self._redis = redis
        self._name = redis.key("approval")
        self._ttl_ms = ttl_seconds * 1000
        self._keep_ms = (ttl_seconds + keep_seconds) * 1000
        self._longest_ms = math.ceil((longest_answer_seconds + _MARGIN_SECONDS) * 1000)
        self._approvers = approvers
        self._metrics = metrics
        self._releases: set[asyncio.Task[None]] = set()

    async def put(self, turn: Suspended) -> list[WaitingCall]:
        """Store a turn that waits, and return its pending calls with their ids.

        Raises:
            CannotWaitError: when too many turns wait, or the turn is too large.
        """
        pending = turn.suspension.pending
        state = written_state(turn)
        calls = [written_call(call) for call in pending]
        if len(state) + sum(map(len, calls)) > _LARGEST_BYTES:
            raise CannotWaitError("The turn is too large to wait for the approval of a tool call.")
        reply = await self._run(
            _PUT,
            *(turn.owner, str(turn.place), secrets.token_hex(10), self._ttl_ms, self._keep_ms, _MOST_WAITING),
            *(state, *calls),
        )
        if reply == b"full":
            raise CannotWaitError("Too many tool calls wait for approvals; decide on some of them first.")
        turn_id, created, expires = reply[0].decode(), reply[1] / 1000, reply[2] / 1000
        tools = ", ".join(dict.fromkeys(call.use.name for call in pending))
        _log.info("Turn waits for approvals", approval=turn_id, place=turn.place.kind, tools=printable(tools))
        return [
            WaitingCall(
                f"{turn_id}.{number}",
                turn.owner,
                turn.place,
                call.use.name,
                call.server,
                call.use.input,
                created,
                expires,
            )
            for number, call in enumerate(pending, start=1)
        ]

    def may_decide(self, client: str, owner: str) -> bool:
        """Return whether a client may decide on the calls of this owner's turns."""
        return client in self._approvers if self._approvers else client == owner

    async def decide(self, call: str, place: Place, client: str, *, approve: bool, reason: str) -> str:
        """Decide on a call, and return the owner of its turn. A repeated decision changes nothing.

        A call that expired is not an error: the model learns of it.

        Raises:
            NotAllowedError: if the client may not decide.
            UnknownApprovalError: if there is no such call in this place.
            DecidedError: if it was decided differently before.
        """
        if self._approvers and client not in self._approvers:
            raise NotAllowedError
        turn_id, number = parse_call_id(call)
        verdict = "approved" if approve else "rejected"
        word, *rest = await self._run(
            _DECIDE, turn_id, number, str(place), "" if self._approvers else client, verdict, client, reason
        )
        if word == b"unknown":
            raise UnknownApprovalError
        owner, left, in_force = rest[0].decode(), rest[1], rest[2].decode("ascii", "replace")
        if word == b"decided":
            self._metrics.approvals.labels(verdict).inc()
            _log.info("Tool call was decided", approval=call, verdict=verdict, client=client, undecided=left)
        elif word == b"again" and in_force not in {verdict, "expired"}:
            raise DecidedError(f"This tool call was {in_force} before; a decision cannot be changed.")
        return str(owner)

    async def take(self, turn_id: str, place: Place, owner: str, *, again: bool = False) -> Taken | list[WaitingCall]:
        """Take a turn to go on with it; return its undecided calls if there are any.

        Args:
            turn_id: id of the turn.
            place: what it belongs to.
            owner: its owner; empty for any.
            again: whether to take it even from a process that took it before, because that process has ended.

        Raises:
            UnknownApprovalError: if there is no such turn, or its record is damaged.
            DecidedError: if another process took it.
        """
        token = secrets.token_hex(10)
        try:
            word, *rest = await self._run(_TAKE, turn_id, str(place), owner, token, int(again), self._longest_ms)
        except (StateUnavailableError, asyncio.CancelledError):
            # The script may have run, and a turn that was taken and does not go on would be lost.
            self._release(turn_id, token, ran=False)
            raise
        if word == b"undecided":
            return await self._of_turn(turn_id)
        if word == b"taken":
            raise DecidedError("This tool call was decided before, and the turn has gone on.")
        if word == b"unknown":
            raise UnknownApprovalError
        self._metrics.approvals.labels("expired").inc(rest[0])
        record = dict(zip(rest[1][::2], rest[1][1::2], strict=True))
        try:
            turn = read_turn(record)
            return Taken(turn_id, token, turn, resumed(turn, record, again=word == b"again"))
        except _UNREADABLE:
            self._note_damaged(turn_id)
            raise UnknownApprovalError from None

    async def keep(self, taken: Taken, result: ToolResult) -> None:
        """Keep the result of a pending call, so that a process that takes the turn later does not make the call."""
        ids = [call.use.id for call in taken.turn.suspension.pending]
        if result.id in ids:
            value = json.dumps(written_result(result), separators=(",", ":"))
            await self._run(_KEEP, taken.id, taken.token, ids.index(result.id) + 1, value)

    async def end(self, taken: Taken) -> None:
        """Remove what a turn needed to go on. The decisions are kept for a while."""
        with suppress(StateUnavailableError):
            # The record expires by itself.
            await self._run(_END, taken.id, taken.token)

    async def remove(self, task_id: str) -> None:
        """Remove the turn in which a task waits, as of one that was cancelled."""
        await self._run(_REMOVE, task_id)

    async def of_turn(self, turn_id: str) -> list[WaitingCall]:
        """Return the undecided calls of a turn."""
        return await self._of_turn(turn_id)

    async def waited_in(self, conversation_id: str, owner: str) -> bool:
        """Return whether a turn of this owner waited in a conversation, which may have no messages yet."""
        found = await self._redis.read("GET", f"{self._name}:chat:{conversation_id}")
        return bool(found == owner.encode())

    async def waiting(self, client: str, limit: int, before: str | None) -> tuple[list[WaitingCall], str | None]:
        """Return calls that this client may decide on, newest turn first, and the cursor of the next page, if any.

        At most the calls of `limit` turns are returned, of those that waited before the turn `before`.
        """
        if self._approvers and client not in self._approvers:
            return [], None
        await self.count()
        name = f"{self._name}:all" if self._approvers else f"{self._name}:of:{client}"
        last = f"({before}" if before else "+"
        entries = await self._redis.read("ZREVRANGEBYLEX", name, last, "-", "LIMIT", 0, limit + 1) or []
        names = [entry.decode("ascii", "replace") for entry in entries]
        found = await asyncio.gather(*(self._of_turn(each) for each in names[:limit]))
        cursor = names[limit - 1] if len(names) > limit else None
        return [call for calls in found for call in calls], cursor

    async def count(self) -> int:
        """Return the number of turns that wait."""
        number: int = await self._run(_COUNT)
        return number

    async def _of_turn(self, turn_id: str) -> list[WaitingCall]:
        record: Mapping[bytes, bytes] | None = await self._redis.read("HGETALL", f"{self._name}:turn:{turn_id}")
        try:
            return waiting_calls(turn_id, record) if record else []
        except _UNREADABLE:
            self._note_damaged(turn_id)
            return []

    def _note_damaged(self, turn_id: str) -> None:
        # Only the id is logged, because the record contains a user's text.
        _log.error("Record of an approval in Redis is damaged, skipped it", approval=printable(turn_id))
        self._metrics.damaged_records.inc()

    def halt(self, taken: Taken) -> None:
        """Make a turn available again that could not be ended. Its calls are not made again: see `Resumption`."""
        self._release(taken.id, taken.token, ran=True)

    def _release(self, turn_id: str, token: str, *, ran: bool) -> None:
        async def release() -> None:
            while True:
                try:
                    await self._run(_RELEASE, turn_id, token, int(ran))
                except StateUnavailableError:
                    await asyncio.sleep(_RELEASE_SECONDS)
                else:
                    return

        task = asyncio.get_running_loop().create_task(release())
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    async def close(self) -> None:
        """Stop the releases that Redis did not answer."""
        for task in list(self._releases):
            task.cancel()
        await asyncio.gather(*self._releases, return_exceptions=True)

    async def _run(self, script: Script, *arguments: str | float) -> Any:
        return await self._redis.run(script, [self._name], *arguments)
