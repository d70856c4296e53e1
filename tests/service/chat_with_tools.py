"""What the browser tests of tool calls share: an agent with the tools of a shop, and answers that a test writes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Locator, Route

from support.agent import Service, running_service
from support.browser.chat import Chat
from support.tools_server import ToolsServer, running_tools_server

EVIL = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"


@contextmanager
def running_shop(folder: Path, settings: dict[str, str], **more: str) -> Iterator[tuple[Service, ToolsServer]]:
    """Run an agent with the tools of a server, of which `picture` and `wait` need an approval."""
    with running_tools_server(folder / "server") as server:
        file = folder / "tools.json"
        tools = [{"name": "shop", "mcp": {"url": server.url}, "approve": ["pict*", "wait"]}]
        file.write_text(json.dumps({"tools": tools}), encoding="utf-8")
        # A prefix of its own: another shop in this Redis would take up its tasks.
        given = {"API_RUNS_TASKS": "true", "STATE_PREFIX": folder.name, "TOOLS_FILE": str(file)}
        with running_service(folder, **settings, **given, **more) as service:
            yield service, server


def call(tool: str, **given: Any) -> dict[str, Any]:
    """Return a call that the stand-in makes."""
    return {"name": tool, "input": given}


def stream_of(*events: dict[str, Any] | str) -> str:
    """Return the body of a stream; an event may be JSON as text."""
    texts = (event if isinstance(event, str) else json.dumps(event) for event in events)
    return "".join(f"data: {text}\n\n" for text in texts)


async def script(chat: Chat, *events: dict[str, Any] | str) -> None:
    """Answer each message of the page with these events."""

    async def answer(route: Route) -> None:
        await route.fulfill(content_type="text/event-stream", body=stream_of(*events))

    await accept(chat)
    await chat.page.route("**/tasks/*/events", answer)


async def accept(chat: Chat) -> None:
    """Accept each message of the page, as the task `t` in the conversation `c`."""

    async def answer(route: Route) -> None:
        await route.fulfill(status=202, json={"task_id": "t", "conversation_id": "c"})

    await chat.page.route("**/chat", answer)


async def boxes(call_or_card: Locator) -> list[str]:
    """Return the text of the boxes of a tool call or an approval."""
    return await call_or_card.locator("pre").all_text_contents()
