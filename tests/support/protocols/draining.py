"""A process that shuts down while a stream of every protocol is in progress."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from support.protocols import Spoken
from support.protocols.client import RefusedError


@dataclass
class Course:
    """What the clients of one protocol saw: the texts of the stream, and the error of a request that came late."""

    received: list[str] = field(default_factory=list)
    refused: RefusedError | None = None


@dataclass
class _Phases:
    streaming: dict[str, asyncio.Event]
    draining: asyncio.Event
    late: dict[str, asyncio.Event]


async def drained(
    protocols: Sequence[Spoken],
    url: str,
    keys: Mapping[str, str],
    message: str,
    *,
    drain: Callable[[], Awaitable[None]],
    release: Callable[[], None],
) -> dict[str, Course | BaseException]:
    """Open a stream in every protocol, `drain` the process, send a late request in each, and `release` the answers.

    The result of a protocol that fails in another way is its exception.
    """
    names = [protocol.name for protocol in protocols]
    phases = _Phases(
        {name: asyncio.Event() for name in names}, asyncio.Event(), {name: asyncio.Event() for name in names}
    )
    tasks = {each.name: asyncio.create_task(_course(each, url, keys[each.name], message, phases)) for each in protocols}
    await _all(tasks, phases.streaming)
    await drain()
    phases.draining.set()
    await _all(tasks, phases.late)
    release()
    found = await asyncio.gather(*tasks.values(), return_exceptions=True)
    return dict(zip(tasks, found, strict=True))


async def _all(tasks: Mapping[str, asyncio.Task[Course]], events: Mapping[str, asyncio.Event]) -> None:
    """Wait until each task has set its event, or has failed."""

    async def one(name: str) -> None:
        waiting = asyncio.create_task(events[name].wait())
        await asyncio.wait([waiting, tasks[name]], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    await asyncio.gather(*(one(name) for name in events))


async def _course(protocol: Spoken, url: str, key: str, message: str, phases: _Phases) -> Course:
    course = Course()
    async with (
        protocol.connect(url, key) as client,
        protocol.connect(url, key) as late,
        aclosing(client.stream(message)) as pieces,
    ):
        course.received.append(await anext(pieces))
        phases.streaming[protocol.name].set()
        await phases.draining.wait()
        try:
            await late.ask("late")
        except RefusedError as error:
            course.refused = error
        phases.late[protocol.name].set()
        course.received += [piece async for piece in pieces]
    return course
