"""Tool calls on the chat page: a real Chromium, a real service, a real MCP server, and the stand-in model."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from service.chat_with_tools import EVIL, boxes, call, running_shop, script
from stand_in import StandIn, asking
from support.agent import Service
from support.browser.chat import Chat, open_chat

pytestmark = [pytest.mark.timing, pytest.mark.asyncio(loop_scope="module")]

DONE = {"type": "done", "input_tokens": 1, "output_tokens": 1, "conversation_id": "c"}


@pytest.fixture(scope="module")
def shop(shared_settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_shop(tmp_path_factory.mktemp("shop"), shared_settings) as (service, _):
        yield service


@pytest_asyncio.fixture(loop_scope="module")
async def chat(browser: Browser, shop: Service, stand_in: StandIn) -> AsyncIterator[Chat]:
    async with open_chat(browser, shop.url) as chat:
        yield chat


def use(name: str, given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "call-1", "name": name, "input": given}


def result(content: str) -> dict[str, Any]:
    return {"type": "tool_result", "id": "call-1", "is_error": False, "content": content}


async def test_calls_are_shown_between_the_texts_and_open_to_their_input_and_result(chat: Chat) -> None:
    await chat.ask(asking("tea", calls=[[call("price", item="tea")], [call("order", item="tea")]]))

    await expect(chat.calls).to_have_count(2)
    done, failed = chat.calls.first, chat.calls.last
    await expect(done.locator("summary")).to_have_text(re.compile(r"^price done · \d+\.\d+ s$"))
    await expect(failed.locator("summary")).to_have_text(re.compile(r"^order failed · \d+\.\d+ s$"))
    text = await chat.answer.inner_text()
    parts = ["Calling price.", "price done", "Calling order.", "order failed", "Stand-in heard"]
    assert sorted(parts, key=text.index) == parts

    await expect(done.locator("pre").first).to_be_hidden()
    await done.locator("summary").click()
    await expect(done.locator("pre").first).to_be_visible()
    sent, received = await boxes(done)
    assert sent == '{\n  "item": "tea"\n}'
    assert received == "tea costs 3 euros"
    assert "order" in (await boxes(failed))[1]


async def test_content_without_text_is_shown_as_its_type(chat: Chat) -> None:
    await script(chat, use("picture", {}), result("A picture\n[image]"), DONE)
    await chat.ask("Hello")
    assert (await boxes(chat.calls.first))[1] == "A picture\n[image]"


async def test_a_call_that_runs_is_shown_and_ends_without_a_result_when_the_user_stops_it(chat: Chat) -> None:
    await chat.say(asking("slow", calls=[[call("price", item="tea")]], slow=0.2, words=100))
    await expect(chat.calls.first).to_contain_text("done")
    await script(chat, use("price", {"item": "tea"}))
    await chat.page.keyboard.press("Escape")
    await chat.say("cut")
    await expect(chat.calls.last.locator("summary")).to_have_text("price running")
    await chat.page.keyboard.press("Escape")
    await expect(chat.calls.last.locator("summary")).to_have_text("price no result")


async def test_hostile_names_inputs_and_results_are_shown_as_text(chat: Chat) -> None:
    await script(chat, use(EVIL, {EVIL: [EVIL], "__proto__": {"x": EVIL}}), result(EVIL), DONE)
    await chat.ask("Hello")

    await expect(chat.calls.locator("summary .name")).to_have_text(EVIL)
    sent, received = await boxes(chat.calls.first)
    assert json.loads(sent) == {EVIL: [EVIL], "__proto__": {"x": EVIL}}
    assert received == EVIL
    assert await chat.page.locator("#talk :is(script, img, a)").count() == 0
    assert await chat.page.evaluate("window.hacked") is None


@pytest.mark.parametrize("hidden", ["\u202e", "\u2066", "\u200b", "\u00a0", "\u3164", "\x1b", "\x7f", "\U000e0041"])
async def test_characters_that_hide_or_reorder_text_are_shown_as_escapes(chat: Chat, hidden: str) -> None:
    given = {f"a{hidden}b": f"c{hidden}d", "plain": 'é 😀 \\u202e " ש'}
    await script(chat, use(f"price{hidden}", given), result(f"x{hidden}y\n\tz"), DONE)
    await chat.ask("Hello")

    escape = json.dumps(hidden).strip('"') if hidden != "\x7f" else "\\u007f"
    assert await chat.calls.locator("summary .name").text_content() == f"price{escape}"
    sent, received = await boxes(chat.calls.first)
    assert hidden not in sent
    assert f'"a{escape}b": "c{escape}d"' in sent
    assert json.loads(sent) == given
    assert received == f"x{escape}y\n\tz"


async def test_numbers_are_shown_with_all_of_their_digits(chat: Chat) -> None:
    given = '{"id":12345678901234567890,"share":1.0,"rate":0.10000000000000000555}'
    event = f'{{"type":"tool_use","id":"call-1","name":"price","input":{given}}}'
    await script(chat, event, result("5"), DONE)
    await chat.ask("Hello")
    assert re.sub(r"\s", "", (await boxes(chat.calls.first))[0]) == given


async def test_hebrew_does_not_swap_a_name_and_its_value(chat: Chat) -> None:
    await script(chat, use("price", {"אבג": "דהו"}), result("5"), DONE)
    await chat.ask("Hello")
    await chat.calls.first.locator("summary").click()
    name, value = await chat.calls.locator("pre bdi").all()
    left, right = await name.bounding_box(), await value.bounding_box()
    assert left is not None
    assert right is not None
    assert left["x"] + left["width"] <= right["x"]


async def test_calls_are_used_with_the_keyboard_and_long_results_are_scrolled(chat: Chat) -> None:
    await chat.ask(asking("long", calls=[[call("catalogue", characters=16_000)]]))
    summary, box = chat.calls.locator("summary"), chat.page.get_by_role("region", name="Result of catalogue")
    await summary.focus()
    await chat.page.keyboard.press("Enter")
    await expect(box).to_be_visible()
    height = await box.evaluate("(it) => it.clientHeight")
    assert height <= 320 < await box.evaluate("(it) => it.scrollHeight")
    await chat.page.keyboard.press("Tab")
    await chat.page.keyboard.press("Tab")
    await expect(box).to_be_focused()


async def test_a_screen_reader_announces_no_call(chat: Chat) -> None:
    await chat.page.evaluate(
        """() => {
            window.announced = [];
            const spoken = document.getElementById("spoken");
            new MutationObserver(() => window.announced.push(spoken.textContent)).observe(spoken, { childList: true });
        }"""
    )
    await chat.ask(asking("tea", calls=[[call("price", item="tea")]]))
    first, last = await chat.page.evaluate("window.announced")
    assert first == "The agent is answering."
    assert last.startswith("The agent answered: Calling price.")
    assert await chat.calls.locator(":is([aria-live], [role=status], [role=alert])").count() == 0


async def test_an_opened_call_needs_no_horizontal_scrolling(browser: Browser, shop: Service) -> None:
    async with open_chat(browser, shop.url, viewport={"width": 320, "height": 480}) as chat:
        await script(chat, use("wide" * 50, {"wide" * 50: "wide" * 50}), result("wide" * 50), DONE)
        await chat.ask("Hello")
        await chat.calls.locator("summary").click()
        assert await chat.page.evaluate("document.documentElement.scrollWidth") == 320
