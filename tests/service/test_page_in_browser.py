"""The chat page in a real Chromium, in front of a real service."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route, expect

from stand_in import StandIn, asking
from support.agent import Service, StartService
from support.browser.chat import Chat, open_chat
from support.eventually import eventually
from support.redis_server import running_redis

# All tests of this file share one browser, which belongs to one event loop.
pytestmark = [pytest.mark.timing, pytest.mark.asyncio(loop_scope="module")]

FACTS = re.compile(r"^(\d+) tokens in, (\d+) out · \d+\.\d+ s · first text after \d+\.\d+ s$")
CLIENT_KEY = "a-client-key-of-some-length"
# Longer than the page tries to connect again.
LONG_MILLISECONDS = 180_000


@pytest_asyncio.fixture(loop_scope="module")
async def chat(browser: Browser, service: Service) -> AsyncIterator[Chat]:
    async with open_chat(browser, service.url) as chat:
        yield chat


async def test_an_answer_appears_incrementally_followed_by_its_tokens_and_duration(
    chat: Chat, stand_in: StandIn
) -> None:
    await chat.say(asking("Hello", hold="page", after=15, words=30))
    await expect(chat.answer).to_contain_text("word2")
    assert stand_in.last()["state"] == "running"
    assert "word29" not in await chat.answer.inner_text()
    stand_in.release("page")
    await expect(chat.answer).to_contain_text("word29")
    await expect(chat.facts).to_have_text(FACTS)
    facts = FACTS.match(await chat.facts.inner_text())
    # The stand-in counts words as tokens: two of the message and two of the system prompt, then those of its answer.
    assert facts is not None
    assert int(facts[1]) == 4
    assert int(facts[2]) == len((await chat.answer.inner_text()).split())


async def test_a_conversation_continues_until_a_new_one_is_started(chat: Chat, stand_in: StandIn) -> None:
    assert await chat.ask("First") == {"message": "First", "background": True}
    second = await chat.ask("Second")
    assert set(second) == {"message", "conversation_id", "background"}
    assert stand_in.last()["history"][0] == "user: First"
    await chat.new_button.click()
    await expect(chat.answers).to_have_count(0)
    assert await chat.ask("Third") == {"message": "Third", "background": True}


@pytest.mark.parametrize("how", ["button", "Escape", "new conversation"])
async def test_stopping_ends_the_call_to_the_model(chat: Chat, stand_in: StandIn, how: str) -> None:
    await chat.say(asking("Hello", slow=0.1, words=300))
    await expect(chat.answer).to_contain_text("word1")
    if how == "Escape":
        await chat.page.keyboard.press("Escape")
    else:
        await (chat.stop_button if how == "button" else chat.new_button).click()
    await asyncio.to_thread(eventually, lambda: stand_in.last()["state"] == "disconnected", "the call ended")
    await expect(chat.send_button).to_be_visible()
    await expect(chat.message).to_be_focused()
    if how == "new conversation":
        await expect(chat.answers).to_have_count(0)
    else:
        await expect(chat.facts).to_contain_text("Stopped after")
        await expect(chat.answer).to_contain_text("word1")
    await chat.ask("And now?")
    await expect(chat.answer).to_contain_text('heard "And now?"')


async def test_an_error_in_the_stream_is_shown_next_to_the_partial_answer_once_its_attempts_are_used_up(
    browser: Browser, start_service: StartService, shared_settings: dict[str, str], stand_in: StandIn
) -> None:
    service = start_service(**shared_settings, API_RUNS_TASKS="true", TASK_MAX_ATTEMPTS="2")
    async with open_chat(browser, service.url) as chat:
        await chat.say(asking("Hello", error="overloaded_error", after=3))
        await expect(chat.problem).to_have_text("The model API is overloaded; try again later.")
        await expect(chat.answer).to_have_text('Stand-in heard "Hello ')
        await expect(chat.page.get_by_role("button", name="Try again")).to_be_enabled()
        assert len(stand_in.requests()) == 2


async def test_the_agent_asks_the_model_again_after_the_time_that_a_429_requests(
    browser: Browser, start_service: StartService, shared_settings: dict[str, str], stand_in: StandIn
) -> None:
    service = start_service(**shared_settings, API_RUNS_TASKS="true")
    async with open_chat(browser, service.url) as chat:
        await chat.ask(asking("Hello", fault=429, retry_after=1, times=1, id="page"))
        await expect(chat.answer).to_contain_text('heard "Hello')
        await expect(chat.problem).to_have_count(0)
        assert len(stand_in.requests()) == 2


async def test_after_a_429_of_the_agent_the_retry_button_is_disabled_for_the_requested_time(chat: Chat) -> None:
    async def refuse(route: Route) -> None:
        await route.fulfill(status=429, headers={"Retry-After": "30"}, json={"detail": "Too many requests."})

    await chat.page.clock.install()
    await chat.page.route("**/chat", refuse)
    await chat.say("Hello")
    await expect(chat.problem).to_have_text("Too many requests. Wait 30 s.")
    await chat.page.unroute("**/chat")
    again = chat.page.get_by_role("button", name="Try again")
    await expect(again).to_be_disabled()
    await chat.page.clock.fast_forward(30_000)
    await expect(again).to_be_enabled()
    await again.click()
    await expect(chat.facts).to_have_text(FACTS)
    await expect(chat.problem).to_have_count(0)
    await expect(chat.answers).to_have_count(1)


@pytest.mark.parametrize("when", ["before", "in the middle"])
async def test_an_unreachable_service_is_shown_as_a_message(
    browser: Browser, start_service: StartService, stand_in: StandIn, when: str
) -> None:
    service = start_service(ANTHROPIC_API_KEY="sk-any", ANTHROPIC_BASE_URL=stand_in.url)
    async with open_chat(browser, service.url) as chat:
        await chat.page.clock.install()
        if when == "before":
            service.process.kill()
            service.wait()
        await chat.say(asking("Hello", slow=0.1, words=100))
        if when == "in the middle":
            await expect(chat.answer).to_contain_text("word1")
            service.process.kill()
            await expect(chat.answers.last.locator(".note")).to_contain_text("The connection to the agent broke.")
            await chat.page.clock.fast_forward(LONG_MILLISECONDS)
        await expect(chat.problem).to_contain_text("The connection to the agent failed.")


async def test_markup_from_the_model_is_shown_as_text(chat: Chat) -> None:
    evil = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1><a href=javascript:1>x</a>"
    await chat.ask(evil)
    await expect(chat.answer).to_contain_text(f'heard "{evil}"')
    assert await chat.page.locator("#talk :is(script, img, a)").count() == 0
    assert await chat.page.evaluate("window.hacked") is None


async def test_the_content_security_policy_blocks_an_injected_script(chat: Chat) -> None:
    blocked = await chat.page.evaluate(
        """() => new Promise((resolve) => {
            document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "window.hacked = 1";
            document.body.append(script);
        })"""
    )
    assert blocked == "script-src-elem"
    assert await chat.page.evaluate("window.hacked") is None
    assert [complaint for complaint in chat.complaints if "Content Security Policy" in complaint]
    chat.complaints.clear()


async def test_the_page_can_be_used_with_the_keyboard_alone(chat: Chat) -> None:
    keyboard = chat.page.keyboard
    await expect(chat.message).to_be_focused()
    await keyboard.type("One line,")
    await keyboard.press("Shift+Enter")
    await keyboard.type(asking("and another", slow=0.1, words=100))
    await keyboard.press("Enter")
    await expect(chat.answer).to_contain_text('"One line,\nand another')
    await keyboard.press("Tab")
    await expect(chat.stop_button).to_be_focused()
    assert await chat.stop_button.evaluate("(it) => getComputedStyle(it).outlineStyle") == "solid"
    await keyboard.press("Enter")
    await expect(chat.facts).to_contain_text("Stopped")
    await expect(chat.message).to_be_focused()
    await keyboard.press("Shift+Tab")
    await expect(chat.new_button).to_be_focused()
    await keyboard.press("Space")
    await expect(chat.answers).to_have_count(0)
    await expect(chat.message).to_be_focused()


async def test_a_message_that_is_too_long_is_not_sent(chat: Chat) -> None:
    await chat.message.fill("x" * 10_001)
    await expect(chat.page.get_by_text("10,001 of 10,000 characters")).to_be_visible()
    await expect(chat.send_button).to_be_disabled()
    await chat.message.press("Enter")
    await expect(chat.answers).to_have_count(0)
    # The service counts characters; in JavaScript each of these has a length of two.
    await chat.ask("😀" * 10_000)
    await expect(chat.facts).to_have_text(FACTS)


async def test_a_client_key_is_requested_kept_in_this_tab_and_forgotten(
    browser: Browser, start_service: StartService
) -> None:
    service = start_service(MODEL_PROVIDER="echo", API_KEYS=CLIENT_KEY)
    async with open_chat(browser, service.url) as chat:
        await chat.say("Hello")
        await expect(chat.key).to_be_focused()
        await chat.key.fill("a key")
        await chat.key.press("Enter")
        await expect(chat.page.locator("#key-note")).to_contain_text("not a valid key")
        await chat.key.fill("not-the-right-key-at-all")
        await chat.key.press("Enter")
        await expect(chat.page.locator("#key-note")).to_contain_text("did not accept that key")
        await chat.key.fill(CLIENT_KEY)
        await chat.key.press("Enter")
        await expect(chat.answer).to_have_text("You said: Hello")
        await expect(chat.key).to_be_hidden()
        await chat.page.reload()
        await chat.ask("Still me")
        assert await chat.page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        assert await chat.page.evaluate("sessionStorage.getItem('portside.client-key')") == CLIENT_KEY
        await chat.page.get_by_role("button", name="Forget key").click()
        assert CLIENT_KEY not in await chat.page.evaluate("JSON.stringify(sessionStorage)")
        await chat.say("Who am I?")
        await expect(chat.key).to_be_focused()


async def test_a_message_that_cannot_be_accepted_without_redis_shows_the_reason(
    browser: Browser, start_service: StartService, tmp_path: Path
) -> None:
    with running_redis(tmp_path) as redis:
        service = start_service(MODEL_PROVIDER="echo", REDIS_URL=redis.url)
        async with open_chat(browser, service.url) as chat:
            await chat.ask("Hello")
            redis.stop()
            await chat.say("Do you remember?")
            await expect(chat.problem).to_contain_text("cannot be reached")


async def test_the_page_works_under_a_path_prefix(browser: Browser, service: Service) -> None:
    prefix = "/agents/one"

    async def strip(route: Route) -> None:
        await route.continue_(url=route.request.url.replace(prefix, ""))

    context = await browser.new_context()
    page = await context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.route(f"{service.url}/**", strip)
    await page.goto(f"{service.url}{prefix}/")
    chat = Chat(page)
    await chat.ask("Hello")
    await expect(page.locator("#about")).to_contain_text("claude")
    assert len(asked) >= 7
    assert [url for url in asked if not url.startswith(f"{service.url}{prefix}/")] == []
    assert chat.complaints == []
    await context.close()
