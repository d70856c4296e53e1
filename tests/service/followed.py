"""A client of background chats that follows them as EventSource does: it goes on where it was cut off."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp

LAST = {"done", "error", "input_required"}


@dataclass
class Followed:
    """The events of one task as a client has received them, and the text that they amount to."""

    path: str
    events: list[dict[str, Any]] = field(default_factory=list)
    last_id: str = ""
    text: str = ""

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def has_ended(self) -> bool:
        return bool(self.events) and self.events[-1]["type"] in LAST

    def take(self, event_id: str, event: dict[str, Any]) -> None:
        assert event_id != self.last_id
        self.last_id = event_id
        self.events.append(event)
        if event["type"] == "text":
            self.text += event["content"]
        elif event["type"] == "restarted":
            self.text = event["content"]

    async def read(self, session: aiohttp.ClientSession, url: str) -> None:
        """Read the events at this replica until the stream ends or is cut off."""
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        event_id = ""
        async with session.get(url + self.path, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            async for raw in answer.content:
                line = raw.decode()
                if line.startswith("id: "):
                    event_id = line[4:-1]
                elif line.startswith("data: "):
                    self.take(event_id, json.loads(line[6:]))

    async def follow(self, session: aiohttp.ClientSession, *urls: str) -> None:
        """Read the events until the last one, at the first replica, and after each end at the next one."""
        for url in (*urls, *(urls[-1:] * 100)):
            try:
                await self.read(session, url)
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
            if self.has_ended:
                return
        raise AssertionError(f"the stream of {self.path} has no end: {self.types}")


def client() -> aiohttp.ClientSession:
    """Return a session for any number of streams."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120))


async def ask(session: aiohttp.ClientSession, url: str, message: str, **more: Any) -> dict[str, Any]:
    """Send a background chat, and return the answer."""
    async with session.post(f"{url}/chat", json={"message": message, "background": True, **more}) as answer:
        assert answer.status == 202, await answer.text()
        accepted: dict[str, Any] = await answer.json()
        return accepted


async def task(session: aiohttp.ClientSession, url: str, accepted: dict[str, Any]) -> dict[str, Any]:
    async with session.get(url + accepted["status_url"]) as answer:
        found: dict[str, Any] = await answer.json()
        return found
