"""The chat page as a user sees it in a browser."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page

# The console also reports an HTTP error as an error; the page shows it to the user, and the tests check it there.
_EXPECTED = re.compile(
    r"Failed to load resource: (the server responded with a status of (40[1349]|42[29]|5\d\d)|net::ERR_)"
)


class Chat:
    """One open page. `complaints` holds what the browser reported: a policy violation, an exception, an error."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.message = page.get_by_role("textbox", name="Message", exact=True)
        self.send_button = page.get_by_role("button", name="Send")
        self.stop_button = page.get_by_role("button", name="Stop")
        self.new_button = page.get_by_role("button", name="New conversation")
        self.key = page.get_by_label("Client key")
        self.answers = page.locator("#talk .answer")
        self.facts = page.locator("#talk .answer > .facts")
        self.calls = page.locator("#talk .call")
        self.cards = page.locator("#talk .approval")
        self.approve = page.get_by_role("button", name="Approve", exact=True)
        self.problem = page.get_by_role("alert")
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    @property
    def answer(self) -> Locator:
        """The text of the newest answer."""
        return self.answers.last.locator(".text")

    async def say(self, text: str) -> None:
        """Write a message and send it."""
        await self.message.fill(text)
        await self.message.press("Enter")

    async def ask(self, text: str) -> dict[str, Any]:
        """Send a message, wait for the whole answer, and return the body of the request that was sent."""
        done = await self.facts.count()
        async with self.page.expect_request("**/chat") as request:
            await self.say(text)
        await self.facts.nth(done).wait_for()
        sent = (await request.value).post_data_json
        assert isinstance(sent, dict)
        return sent

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not _EXPECTED.match(message.text):
            self.complaints.append(message.text)


@asynccontextmanager
async def open_chat(browser: Browser, url: str, **options: Any) -> AsyncIterator[Chat]:
    """Open the page at `url` in a fresh profile; `options` are Playwright's options of a context."""
    context: BrowserContext = await browser.new_context(**options)
    try:
        chat = Chat(await context.new_page())
        await chat.page.goto(url)
        yield chat
        assert chat.complaints == []
    finally:
        await context.close()
