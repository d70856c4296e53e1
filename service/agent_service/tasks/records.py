"""Reading the records of tasks, and their number."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import structlog

from agent_service.state.redis import Redis
from agent_service.state.script import Script
from agent_service.tasks.record import STATUSES, Claim, Status, Task, parse_task
from agent_service.telemetry.redact import printable

_log = structlog.get_logger(__name__)

_DUE = Script(__package__, "task", "due_tasks")


class TaskRecords:
    """The records of tasks until they expire. All methods raise StateUnavailableError."""

    def __init__(self, redis: Redis, on_damaged: Callable[[], None]) -> None:
        """Take the store. `on_damaged` is called for each damaged record."""
        self._redis = redis
        self._on_damaged = on_damaged
        self._name = redis.key("task")

    async def get(self, owner: str, task_id: str) -> Task | None:
        """Return a task; None if the owner has no task with that id, it has expired, or its record is damaged."""
        record = await self._redis.read("HGETALL", f"{self._name}:record:{task_id}")
        if record is None:
            self.note_damaged(task_id)
            return None
        if record.get(b"owner") != owner.encode():
            return None
        try:
            return parse_task(task_id, record)
        except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
            self.note_damaged(task_id)
            return None

    def note_damaged(self, task_id: str) -> None:
        """Log and count a damaged record."""
        # Only the id is logged, because the record may contain a user's text.
        _log.error("Record of a task in Redis is damaged, skipped it", task_id=printable(task_id))
        self._on_damaged()

    async def newest(self, owner: str, status: Status | None, limit: int, before: str | None) -> list[Task]:
        """Return the owner's tasks, newest first: at most `limit` of those accepted before the task `before`."""
        name = f"{self._name}:of:{owner}:{status or 'all'}"
        last: str | bytes = f"({before}" if before else "+"
        found: list[Task] = []
        while len(found) < limit:
            entries = await self._redis.read("ZREVRANGEBYLEX", name, last, "-", "LIMIT", 0, limit - len(found))
            if not entries:
                break
            # An expired task may remain in the list for a moment, and a task may just have changed its status. An entry
            # that is not ASCII is not an id, and has no record.
            tasks = await asyncio.gather(*(self.get(owner, entry.decode("ascii", "replace")) for entry in entries))
            found += [task for task in tasks if task is not None and status in {None, task.status}]
            last = b"(" + entries[-1]
        return found

    async def has_conversation(self, owner: str, conversation_id: str) -> bool:
        """Return whether the owner has, or had, a task in a conversation, which may have no messages yet."""
        return bool(await self._redis.read("GET", f"{self._name}:conversation:{owner}:{conversation_id}"))

    async def progress(self, claim: Claim) -> dict[bytes, bytes]:
        """Return the record of the step that an earlier attempt kept; empty if it is missing or damaged."""
        return await self._redis.read("HGETALL", f"{self._name}:progress:{claim.id}") or {}

    async def count(self) -> dict[Status, int]:
        """Return the number of tasks by status."""
        names = ("ready", "leases", "asking", "completed", "failed")
        counts = await asyncio.gather(*(self._redis.call("ZCARD", f"{self._name}:{name}") for name in names))
        return dict(zip(STATUSES, counts, strict=True))

    async def due(self) -> int:
        """Return the number of tasks that one more worker could start now."""
        number: int = await self._run(_DUE)
        return number

    async def news(self) -> AsyncGenerator[str | None]:
        """Yield None when a task may be available, and the id of a task that was cancelled. Some may be missed."""
        async with self._redis.subscribe(f"{self._name}:news", f"{self._name}:cancelled") as messages:
            async for channel, message in messages:
                yield message.decode() if channel.endswith(":cancelled") else None

    async def _run(self, script: Script, *arguments: str | float) -> Any:
        return await self._redis.run(script, [self._name], *arguments)
