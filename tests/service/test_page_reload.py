"""Reloads of the chat page: a real Chromium, a real service, and the stand-in model."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route, expect

from service.chat_with_tools import script
from stand_in import StandIn, asking
from support.agent import Service, StartService
from support.browser.chat import Chat, open_chat
from support.eventually import eventually_async
from support.redis_server import RedisServer

pytestmark = [pytest.mark.timing, pytest.mark.asyncio(loop_scope="module")]

CLIENT_KEY = "a-client-key-of-some-length"
KEPT = "portside.conversation"
DONE = {"type": "done", "input_tokens": 1, "output_tokens": 1, "conversation_id": "c"}
FORGOTTEN = "The agent no longer has the earlier messages of this conversation"


@pytest_asyncio.fixture(loop_scope="module")
async def chat(browser: Browser, service: Service) -> AsyncIterator[Chat]:
    async with open_chat(browser, service.url) as chat:
        yield chat


def whole(message: str, stand_in: StandIn) -> str:
    """Return the stand-in's answer to a message that asks for 20 words."""
    asked = stand_in.last()
    start = f'Stand-in heard "{message}" (model {asked["model"]}; system prompt "{asked["system"]}").'
    return " ".join([start, *(f"word{number}" for number in range(20))])


async def test_an_answer_continues_across_reloads_and_has_its_whole_text_once(chat: Chat, stand_in: StandIn) -> None:
    message = asking("Hello", hold="reload", after=14, words=20)
    await chat.say(message)
    await expect(chat.answer).to_contain_text("word1")
    partial = await chat.answer.inner_text()
    for _ in range(2):
        await chat.page.reload()
        await expect(chat.answer).to_have_text(partial)
    await expect(chat.stop_button).to_be_visible()
    await expect(chat.page.locator("#spoken")).to_have_text("The agent is answering.")
    stand_in.release("reload")
    await expect(chat.facts).to_contain_text("tokens in")
    assert await chat.answer.inner_text() == whole(message, stand_in)
    assert await chat.page.locator("#talk .message .text").all_inner_texts() == [message]
    assert len(stand_in.requests()) == 1
    await expect(chat.page.locator("#spoken")).to_have_text(f"The agent answered: {whole(message, stand_in)}")


async def test_the_conversation_is_shown_and_continues_after_a_reload(chat: Chat, stand_in: StandIn) -> None:
    await chat.ask("First")
    await chat.ask("<b>Second</b>")
    shown = await chat.page.locator("#talk").inner_text()
    await chat.page.reload()
    await expect(chat.facts).to_have_count(2)
    assert await chat.page.locator("#talk").inner_text() == shown
    await expect(chat.page.locator("#welcome")).to_be_hidden()
    await expect(chat.page.locator("#spoken")).to_have_text("")

    assert "conversation_id" in await chat.ask("Third")
    assert [line for line in stand_in.last()["history"] if line.startswith("user:")] == [
        "user: First",
        "user: <b>Second</b>",
    ]


async def test_a_new_conversation_forgets_the_messages(chat: Chat) -> None:
    await chat.ask("First")
    assert await chat.page.evaluate(f"sessionStorage.getItem('{KEPT}')") is not None
    await chat.new_button.click()
    assert await chat.page.evaluate("sessionStorage.length") == 0
    await chat.page.reload()
    await expect(chat.page.locator("#welcome")).to_be_visible()
    await expect(chat.answers).to_have_count(0)
    assert "conversation_id" not in await chat.ask("Second")


async def test_each_tab_has_its_own_conversation(chat: Chat, service: Service, stand_in: StandIn) -> None:
    await chat.say(asking("First", hold="tabs", after=4, words=20))
    await expect(chat.answer).to_contain_text("Stand-in")
    second = Chat(await chat.page.context.new_page())
    await second.page.goto(service.url)
    await expect(second.page.locator("#welcome")).to_be_visible()
    assert "conversation_id" not in await second.ask("Of the second tab")
    stand_in.release("tabs")
    await expect(chat.facts).to_have_count(1)
    await second.page.reload()
    await expect(second.answer).to_contain_text("Of the second tab")
    await expect(second.answers).to_have_count(1)
    await expect(chat.answers).to_have_count(1)
    await chat.ask("And now?")
    assert [line for line in stand_in.last()["history"] if "second" in line] == []
    assert second.complaints == []


async def test_a_stopped_answer_is_cancelled_and_stays_stopped_after_a_reload(
    chat: Chat, service: Service, stand_in: StandIn
) -> None:
    async with chat.page.expect_request("**/events") as reading:
        await chat.say(asking("Hello", hold="stop", after=4))
    task = (await reading.value).url.removesuffix("/events").removeprefix(service.url)
    await expect(chat.answer).to_contain_text("Stand-in")
    await chat.page.reload()
    await expect(chat.answer).to_contain_text("Stand-in")
    await chat.stop_button.click()
    await expect(chat.facts).to_have_text(re.compile(r"^Stopped after [\d.]+ s; the agent will not remember"))
    state = service.get(task).json()
    assert (state["status"], state["error"]["code"]) == ("failed", "cancelled")
    await chat.page.reload()
    await expect(chat.facts).to_contain_text("Stopped after")
    await expect(chat.send_button).to_be_visible()


@pytest.mark.parametrize("how", ["killed", "drained"])
async def test_an_answer_goes_on_when_its_process_ends_and_another_takes_its_place(
    browser: Browser, start_service: StartService, shared_settings: dict[str, str], stand_in: StandIn, how: str
) -> None:
    settings = shared_settings | {"API_RUNS_TASKS": "true"}
    first = start_service(**settings)
    async with open_chat(browser, first.url) as chat:
        message = asking("Hello", hold=how, after=14, words=20)
        await chat.say(message)
        await expect(chat.answer).to_contain_text("word1")
        if how == "killed":
            first.kill()
        else:
            first.terminate()
        await expect(chat.answers.last.locator(".note")).to_contain_text("The connection to the agent broke.")
        stand_in.release(how)
        await asyncio.to_thread(first.wait)
        start_service(**settings, port=first.url.rpartition(":")[2])
        await expect(chat.facts).to_contain_text("2 attempts" if how == "killed" else "tokens in", timeout=60_000)
        await expect(chat.answers.last.locator(".note")).to_have_count(0)
        assert await chat.answer.inner_text() == whole(message, stand_in)
        await expect(chat.problem).to_have_count(0)


async def test_a_conversation_that_has_expired_is_reported_with_the_next_answer(
    browser: Browser, start_service: StartService, redis_server: RedisServer
) -> None:
    service = start_service(MODEL_PROVIDER="echo")
    async with open_chat(browser, service.url) as chat:
        await chat.ask("First")
        redis_server.command("FLUSHALL")
        await chat.page.reload()
        sent = await chat.ask("Second")
        await expect(chat.answers.last.locator(".note")).to_contain_text(FORGOTTEN)
        await expect(chat.answers.first.locator(".note")).to_have_count(0)
        assert (await chat.ask("Third"))["conversation_id"] != sent["conversation_id"]
        await expect(chat.answers.last.locator(".note")).to_have_count(0)


async def test_an_answer_that_has_expired_can_be_asked_for_again(chat: Chat, stand_in: StandIn) -> None:
    await chat.say(asking("Hello", hold="expired", after=4))
    await expect(chat.answer).to_contain_text("Stand-in")

    async def expired(route: Route) -> None:
        await route.fulfill(status=404, json={"detail": "The task does not exist; it may have expired."})

    await chat.page.route("**/events", expired)
    await chat.page.reload()
    await expect(chat.problem).to_have_text("The agent no longer has this answer. Ask again if you still need it.")
    await chat.page.unroute("**/events")
    stand_in.release("expired")
    await chat.page.get_by_role("button", name="Try again").click()
    await expect(chat.facts).to_contain_text("tokens in")
    await expect(chat.answers).to_have_count(1)
    await expect(chat.page.locator("#talk .message")).to_have_count(1)


async def test_a_message_that_was_not_confirmed_before_a_reload_is_answered_once(chat: Chat, stand_in: StandIn) -> None:
    submitted: list[str] = []

    async def lose_the_first_answer(route: Route) -> None:
        if submitted:
            await route.continue_()
            return
        accepted = await route.fetch()
        submitted.append((await accepted.json())["task_id"])

    # Without the route, Chromium would send the request that waits, and have its answer before the reload.
    await chat.page.route("**/chat", lose_the_first_answer)
    message = asking("Hello", words=20)
    await chat.say(message)
    await eventually_async(lambda: asyncio.sleep(0, submitted), "the agent has accepted the message")
    async with chat.page.expect_request("**/events") as reading:
        await chat.page.reload()
    assert submitted[0] in (await reading.value).url
    await expect(chat.facts).to_contain_text("tokens in")
    assert await chat.answer.inner_text() == whole(message, stand_in)
    assert len(stand_in.requests()) == 1


NO_STORAGE = """Object.defineProperty(window, "sessionStorage", {
    get() { throw new DOMException("The operation is insecure.", "SecurityError"); },
})"""
FULL_STORAGE = """Storage.prototype.setItem = () => {
    throw new DOMException("The quota has been exceeded.", "QuotaExceededError");
}"""


@pytest.mark.parametrize("storage", [NO_STORAGE, FULL_STORAGE], ids=["none", "full"])
async def test_the_page_works_without_storage(browser: Browser, service: Service, storage: str) -> None:
    async with open_chat(browser, service.url) as chat:
        await chat.page.add_init_script(storage)
        await chat.page.reload()
        await chat.ask("First")
        assert "conversation_id" in await chat.ask("Second")
        await chat.new_button.click()
        assert "conversation_id" not in await chat.ask("Third")
        await chat.page.reload()
        await expect(chat.page.locator("#welcome")).to_be_visible()


async def test_what_is_kept_is_bounded_and_the_newest_messages_remain(chat: Chat) -> None:
    await script(chat, {"type": "text", "content": "x" * 400_000}, DONE)
    for number in range(4):
        await chat.ask(f"Message {number}")
    assert await chat.page.evaluate(f"sessionStorage.getItem('{KEPT}').length") <= 1_010_000
    await chat.page.reload()
    assert await chat.page.locator("#talk .message .text").all_inner_texts() == ["Message 2", "Message 3"]
    await expect(chat.page.locator("#talk > li").first).to_contain_text("The earlier messages of this conversation")


@pytest.mark.parametrize("kept", ["{", "null", '{"format":2}', '{"format":1,"turns":[7]}', '{"format":1}'])
async def test_a_damaged_record_is_ignored(chat: Chat, kept: str) -> None:
    await chat.page.evaluate("(kept) => sessionStorage.setItem('portside.conversation', kept)", kept)
    await chat.page.reload()
    await chat.ask("Hello")
    await expect(chat.answers).to_have_count(1)
    await chat.page.reload()
    await expect(chat.answers).to_have_count(1)


async def test_the_client_key_is_kept_apart_from_the_conversation(
    browser: Browser, start_service: StartService, stand_in: StandIn, shared_settings: dict[str, str]
) -> None:
    service = start_service(**shared_settings | {"API_KEYS": CLIENT_KEY})
    async with open_chat(browser, service.url) as chat:
        await chat.say(asking("Hello", hold="key", after=4, words=20))
        await chat.key.fill(CLIENT_KEY)
        await chat.key.press("Enter")
        await expect(chat.answer).to_contain_text("Stand-in")
        kept: dict[str, Any] = await chat.page.evaluate("({ ...sessionStorage })")
        assert [name for name, value in kept.items() if CLIENT_KEY in value] == ["portside.client-key"]

        await chat.page.get_by_role("button", name="Forget key").click()
        await chat.page.reload()
        await expect(chat.key).to_be_focused()
        await expect(chat.answers.last).to_contain_text("is for the client that asked")
        await chat.key.fill(CLIENT_KEY)
        await chat.key.press("Enter")
        await expect(chat.answer).to_contain_text("Stand-in")
        stand_in.release("key")
        await expect(chat.facts).to_contain_text("tokens in")


async def test_a_full_queue_is_shown_as_an_error_that_can_be_retried(chat: Chat) -> None:
    async def refuse(route: Route) -> None:
        await route.fulfill(status=503, headers={"Retry-After": "1"}, json={"detail": "The queue of tasks is full."})

    await chat.page.route("**/chat", refuse)
    await chat.say("Hello")
    await expect(chat.problem).to_have_text("The queue of tasks is full. Wait 1 s.")
    await chat.page.unroute("**/chat")
    await chat.page.get_by_role("button", name="Try again").click()
    await expect(chat.facts).to_contain_text("tokens in")
