"""Following the events of a task, in any process: from any position, and until the task ends or waits."""

import asyncio
from collections.abc import Callable, Sequence

from agent_service.lifecycle import Lifecycle, end_tasks
from agent_service.state.redis import Redis
from agent_service.state.script import Script
from agent_service.tasks.following import Following, Page
from agent_service.tasks.record import Claim

_READ = Script(__package__, "task", "read_events")

# News arrive at once, by subscription. Polling is for missed ones, and for servers that allow no subscription.
_POLL_SECONDS = 1.0

# One reply has at most so many bytes for all readers, and each asks again once it has passed its events on. So a slow
# client costs no more memory than this.
_PAGE_BYTES = 1024 * 1024
_MOST_READERS = 256


class Events:
    """Reads the events of tasks for all their followers in this process together."""

    def __init__(self, redis: Redis, lifecycle: Lifecycle, note_damaged: Callable[[str], None]) -> None:
        """Take the store. While the process drains, all followers end. `note_damaged` is called with a task's id."""
        self.note_damaged = note_damaged
        self._redis = redis
        self._lifecycle = lifecycle
        self._name = redis.key("task")
        self._followers: dict[str, set[Following]] = {}
        # The tasks whose events this process writes, each with a page that begins after the last event.
        self._written_here: dict[str, Page] = {}
        self._due: list[tuple[str, int, asyncio.Future[Page | None]]] = []
        self._reading: asyncio.Task[None] | None = None
        self._background: list[asyncio.Task[None]] = []

    @property
    def draining(self) -> bool:
        """Whether all followers end, so that their clients go on at another replica."""
        return self._lifecycle.draining

    def follow(self, owner: str, task_id: str, after: str | None = None, *, while_draining: bool = False) -> Following:
        """Return the events of a task after one of them; all if `after` is None.

        With `while_draining`, they go on while the process drains, for a client that would not come back.
        """
        return Following(self, owner, task_id, after, while_draining=while_draining)

    async def close(self) -> None:
        """Stop."""
        await end_tasks([*self._background, *([self._reading] if self._reading is not None else [])])

    def join(self, following: Following) -> None:
        """Wake a follower from now on when its task has news."""
        self._followers.setdefault(following.task_id, set()).add(following)
        if not self._background:
            self._background = [asyncio.create_task(self._listen()), asyncio.create_task(self._poll())]

    def leave(self, following: Following) -> None:
        """Wake a follower no more."""
        of_task = self._followers.get(following.task_id)
        if of_task is not None:
            of_task.discard(following)
            if not of_task:
                del self._followers[following.task_id]

    def begin_writing(self, claim: Claim) -> None:
        """Take note that this process writes the events of a task; then its followers here need not read them."""
        conversation = claim.conversation_id.encode("ascii")
        total = claim.events
        self._written_here[claim.id] = Page(claim.owner.encode(), b"running", total, total, conversation=conversation)

    def wrote(self, task_id: str, first: int, events: Sequence[str], result: str = "") -> None:
        """Pass on events that this process has written to Redis, and the result with which the task has ended."""
        known = self._written_here.get(task_id)
        if known is None:
            return
        total = first + len(events)
        self._written_here[task_id] = known._replace(total=total, first=total)
        if followers := self._followers.get(task_id):
            page = known._replace(total=total, first=first, events=[event.encode("ascii") for event in events])
            if result:
                page = page._replace(status=b"completed", value=result.encode(), streamed=True)
            for follower in followers:
                follower.receive(page)

    def end_writing(self, task_id: str) -> None:
        """Take note that this process writes no more events of a task. What comes next, its followers read."""
        if self._written_here.pop(task_id, None) is not None:
            self._wake(task_id)

    async def read(self, task_id: str, position: int) -> Page | None:
        """Return the events of a task after the first `position`; None if it is missing or damaged."""
        known = self._written_here.get(task_id)
        if known is not None and known.total == position:
            return known
        future: asyncio.Future[Page | None] = asyncio.get_running_loop().create_future()
        self._due.append((task_id, position, future))
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_due())
        return await future

    async def _read_due(self) -> None:
        try:
            while self._due:
                due, self._due = self._due[:_MOST_READERS], self._due[_MOST_READERS:]
                wanted = [each for each in due if not each[2].done()]
                if not wanted:
                    continue
                arguments = [value for task_id, position, _ in wanted for value in (task_id, position)]
                try:
                    replies = await self._redis.run(_READ, [self._name], _PAGE_BYTES, *arguments)
                except Exception as error:
                    # No reader may wait forever.
                    for _, _, future in wanted:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, _, future), reply in zip(wanted, replies, strict=True):
                    if not future.done():
                        future.set_result(Page(*reply) if reply else None)
        finally:
            self._reading = None

    async def _listen(self) -> None:
        async with self._redis.subscribe(f"{self._name}:events") as messages:
            async for _, message in messages:
                for task_id in message.decode("ascii", "replace").split(" "):
                    if task_id not in self._written_here:
                        self._wake(task_id)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            for task_id in list(self._followers):
                self._wake(task_id)

    def _wake(self, task_id: str) -> None:
        for follower in self._followers.get(task_id, ()):
            follower.wake()
