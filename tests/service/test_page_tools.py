"""Tool calls on the chat page: a real Chromium, a real service, a real MCP server, and the stand-in model."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Route, expect

from service.test_tool_loop import in_process_of_its_own
from stand_in import StandIn, asking
from support.agent import Service, StartService
from support.browser import running_browser
from support.browser.chat import Chat, open_chat
from support.mcp_servers import StartServer
from support.tool_agent import calls_of

pytestmark = [pytest.mark.timing, pytest.mark.asyncio(loop_scope="module")]

EVIL = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
DONE = {"type": "done", "input_tokens": 1, "output_tokens": 1, "conversation_id": "c"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as browser:
        yield browser


@pytest.fixture
def agent(
    start_service: StartService, start_mcp: StartServer, stand_in: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> Service:
    """Return an agent with the tools of a server."""
    return start_service(**in_process_of_its_own(tmp_path_factory.mktemp("agent"), start_mcp(), stand_in))


@pytest_asyncio.fixture(loop_scope="module")
async def chat(browser: Browser, agent: Service) -> AsyncIterator[Chat]:
    async with open_chat(browser, agent.url) as chat:
        yield chat


@pytest_asyncio.fixture(loop_scope="module")
async def scripted(browser: Browser, service: Service) -> AsyncIterator[Chat]:
    """Return a page in front of an agent without tools, whose answers a test writes."""
    async with open_chat(browser, service.url) as chat:
        yield chat


async def answer_with(chat: Chat, *events: dict[str, Any]) -> None:
    """Send a message that these events answer."""
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)

    async def answer(route: Route) -> None:
        await route.fulfill(content_type="text/event-stream", body=body)

    await chat.page.route("**/chat/stream", answer)
    await chat.ask("Hello")


def use(name: str, **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "call-1", "name": name, "input": given}


def result(content: str) -> dict[str, Any]:
    return {"type": "tool_result", "id": "call-1", "is_error": False, "content": content}


async def opened(call: Locator) -> list[str]:
    """Open a call, and return the text of its boxes."""
    await call.locator("summary").click()
    return await call.locator("pre").all_text_contents()


async def test_calls_are_shown_in_order_with_the_text_and_open_to_their_input_and_result(chat: Chat) -> None:
    await chat.ask(asking("sum", calls=[calls_of("add", a=2, b=3), calls_of("fail")]))

    await expect(chat.calls).to_have_count(2)
    added, failed = await chat.calls.all()
    await expect(added.locator("summary")).to_have_text(r := __import__("re").compile(r"^add done · \d+\.\d\d s$"))
    assert r
    await expect(failed.locator("summary")).to_contain_text("fail failed · ")
    await expect(added.locator("pre").first).to_be_hidden()
    sent, received = await opened(added)
    assert json.loads(sent) == {"a": 2, "b": 3}
    assert received == "5"
    assert "the disk is full" in (await opened(failed))[1]
    text = await chat.answer.inner_text()
    assert text.index("Calling add.") < text.index("add done") < text.index("Calling fail.") < text.index("fail failed")
    assert text.index("fail failed") < text.index("Stand-in heard")
