"""The connection of the chat page to an answer: how it ends, breaks and is opened again, in a real Chromium."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route, expect

from service.chat_with_tools import accept, stream_of
from support.agent import Service
from support.browser.chat import Chat, open_chat

pytestmark = [pytest.mark.timing, pytest.mark.asyncio(loop_scope="module")]

DONE = {"type": "done", "input_tokens": 1, "output_tokens": 2, "conversation_id": "c"}
# Longer than the page tries to connect again.
LONG_MILLISECONDS = 180_000


@pytest_asyncio.fixture(loop_scope="module")
async def chat(browser: Browser, service: Service) -> AsyncIterator[Chat]:
    async with open_chat(browser, service.url) as chat:
        await accept(chat)
        yield chat


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def part(*events: dict[str, Any], first: int = 1) -> str:
    """Return a part of a stream, whose events have ids from `first` on."""
    return "".join(f"id: t.{number}\n{stream_of(event)}" for number, event in enumerate(events, first))


async def answers(chat: Chat, *parts: str | int) -> list[str | None]:
    """Answer the page's requests for events in turn: with a part of the stream, or an error with a status.

    The last one answers all further requests. Returns the positions that the page asks for.
    """
    positions: list[str | None] = []

    async def answer(route: Route) -> None:
        found = parts[min(len(positions), len(parts) - 1)]
        positions.append(await route.request.header_value("last-event-id"))
        if isinstance(found, str):
            await route.fulfill(content_type="text/event-stream", body=found)
        elif found:
            await route.fulfill(status=found, json={"detail": f"Refused with {found}."})
        else:
            await route.abort()

    await chat.page.route("**/tasks/*/events", answer)
    return positions


@pytest.mark.parametrize("fault", ["", 0, 429, 502, 503])
async def test_a_stream_that_ends_early_or_fails_goes_on_from_its_last_event(chat: Chat, fault: str | int) -> None:
    positions = await answers(
        chat, part(text("One "), text("two ")), fault, part(text("three "), first=3), fault, part(DONE, first=4)
    )
    await chat.ask("Hello")
    await expect(chat.answer).to_have_text("One two three ")
    assert positions == [None, "t.2", "t.2", "t.3", "t.3"]
    await expect(chat.answers.last.locator(".note")).to_have_count(0)


async def test_a_position_that_is_no_longer_known_restarts_the_answer(chat: Chat) -> None:
    positions = await answers(chat, part(text("One ")), 422, part(text("One "), text("two"), DONE))
    await chat.ask("Hello")
    await expect(chat.answer).to_have_text("One two")
    assert positions == [None, "t.1", None]


async def test_a_text_that_changes_with_another_attempt_replaces_the_answer(chat: Chat) -> None:
    resumed = {"type": "resumed", "attempt": 2}
    restarted = {"type": "restarted", "content": "Two "}
    call = {"type": "tool_use", "id": "1", "name": "price", "input": {}}
    result = {"type": "tool_result", "id": "1", "is_error": False, "content": "5"}
    await answers(chat, part(text("One "), call, resumed, restarted, result, text("three"), DONE))
    await chat.ask("Hello")
    await expect(chat.facts).to_contain_text("2 attempts")
    for _ in range(2):
        await expect(chat.answer).to_have_text(re.compile(r"^price done.*Two three$"))
        await expect(chat.calls).to_have_count(1)
        await chat.page.reload()


async def test_a_connection_that_stays_lost_is_reported_and_the_user_can_go_on(chat: Chat) -> None:
    await chat.page.clock.install()
    await answers(chat, part(text("One ")), 0)
    await chat.say("Hello")
    await expect(chat.page.locator("#spoken")).to_contain_text("The connection to the agent broke.")
    await expect(chat.stop_button).to_be_visible()
    await chat.page.clock.fast_forward(LONG_MILLISECONDS)
    await expect(chat.problem).to_contain_text("The connection to the agent failed.")
    await answers(chat, part(text("two"), DONE, first=2))
    await chat.page.get_by_role("button", name="Go on").click()
    await expect(chat.facts).to_contain_text("tokens in")
    await expect(chat.answer).to_have_text("One two")
    await expect(chat.problem).to_have_count(0)


async def test_a_silent_connection_is_given_up_and_opened_again(chat: Chat) -> None:
    await chat.page.clock.install()
    asked = 0

    async def answer(route: Route) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            await route.fulfill(content_type="text/event-stream", body=part(text("One"), DONE))

    await chat.page.route("**/tasks/*/events", answer)
    async with chat.page.expect_request("**/events"):
        await chat.say("Hello")
    await chat.page.clock.fast_forward(LONG_MILLISECONDS)
    await expect(chat.answer).to_have_text("One")


async def test_the_error_of_a_task_is_shown_next_to_its_partial_answer(chat: Chat) -> None:
    error = {"type": "error", "message": "The model API is overloaded; try again later.", "code": "overloaded"}
    await answers(chat, part(text("One "), error))
    await chat.say("Hello")
    await expect(chat.problem).to_have_text("The model API is overloaded; try again later.")
    await expect(chat.answer).to_have_text("One ")
    await chat.page.reload()
    await expect(chat.problem).to_have_text("The model API is overloaded; try again later.")
    await answers(chat, part(text("Two"), DONE))
    await chat.page.get_by_role("button", name="Try again").click()
    await expect(chat.answer).to_have_text("Two")
    await expect(chat.answers).to_have_count(1)


@pytest.mark.parametrize(
    ("media_type", "body", "shown"),
    [
        ("text/event-stream", "data: {not JSON\n\n", "something between it and this page"),
        ("text/html", "<h1>Sign in</h1>", "something between it and this page"),
        ("text/event-stream", part(DONE | {"stop_reason": "max_tokens"}), "it reached the maximum number of tokens"),
        ("text/event-stream", part(DONE | {"warning": "No memory."}), "No memory."),
    ],
)
async def test_an_answer_that_is_foreign_or_cut_short_shows_the_reason(
    chat: Chat, media_type: str, body: str, shown: str
) -> None:
    async def answer(route: Route) -> None:
        await route.fulfill(content_type=media_type, body=body)

    await chat.page.route("**/events", answer)
    await chat.say("Hello")
    await expect(chat.answers.last).to_contain_text(shown)
    await expect(chat.send_button).to_be_visible()


CUT_EVERYWHERE = """async () => {
    const { events } = await import(new URL("page/events.js", location.href));
    const text = [
        "\\uFEFFdata: one\\r\\ndata:  two\\r\\n\\r\\n", ": waiting\\n\\n",
        "event: x\\rid: 7\\rdata\\r\\r", "data:é😀:\\n\\n", "id\\ndata: cut off\\n",
    ];
    const bytes = new TextEncoder().encode(text.join(""));
    const results = new Set();
    for (let first = 0; first <= bytes.length; first++) {
        for (let second = first; second <= bytes.length; second++) {
            const body = new ReadableStream({
                start(control) {
                    for (const [from, to] of [[0, first], [first, second], [second, bytes.length]]) {
                        control.enqueue(bytes.slice(from, to));
                    }
                    control.close();
                },
            });
            const found = [];
            for await (const { id, data } of events(body)) {
                found.push([id, data]);
            }
            results.add(JSON.stringify(found));
        }
    }
    return [...results].map((found) => JSON.parse(found));
}"""


async def test_events_are_parsed_at_every_chunk_boundary(chat: Chat) -> None:
    found: list[Any] = await chat.page.evaluate(CUT_EVERYWHERE)
    assert found == [[["", "one\n two"], ["7", ""], ["7", "é😀:"]]]
