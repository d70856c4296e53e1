"""Accessibility of the chat page: screen readers, zoom, contrast and reduced motion."""

import pytest
from playwright.async_api import Browser, expect

from stand_in import asking
from support.agent import Service
from support.browser.chat import open_chat

pytestmark = [pytest.mark.timing, pytest.mark.asyncio(loop_scope="module")]

# WCAG 2.2, 1.4.3 and 1.4.11.
TEXT_CONTRAST = 4.5
CONTROL_CONTRAST = 3.0

TREE = """
- banner:
  - heading "Portside agent" [level=1]
  - paragraph: /claude/
  - button "New conversation"
- main "Conversation":
  - list "Messages":
    - listitem:
      - paragraph: You
      - text: Hello
    - listitem:
      - paragraph: Agent
      - text: /heard "Hello"/
      - paragraph: /tokens in/
    - listitem:
      - paragraph: You
      - text: /Now fail/
    - listitem:
      - paragraph: Agent
      - alert: /refused/
      - button "Try again"
- contentinfo:
  - textbox "Message"
  - button "Send"
  - paragraph: /Enter sends/
- status: /./
"""


async def test_every_element_has_its_role_and_name(browser: Browser, service: Service) -> None:
    async with open_chat(browser, service.url) as chat:
        await chat.ask("Hello")
        await chat.say(asking("Now fail", fault=400))
        await chat.problem.wait_for()
        await expect(chat.page.locator("body")).to_match_aria_snapshot(TREE)
        # The name and description of the key field must be present before the field is needed.
        await chat.page.evaluate("document.getElementById('key-form').hidden = false")
        await expect(chat.key).to_have_accessible_description(
            "This agent requires a client key. The key is kept in this tab until you close it."
        )
        await expect(chat.message).to_have_accessible_description(
            "Enter sends, Shift+Enter breaks the line, Esc stops the answer"
        )


async def test_a_screen_reader_announces_the_whole_answer_once_and_not_each_token(
    browser: Browser, service: Service
) -> None:
    async with open_chat(browser, service.url) as chat:
        await chat.page.evaluate(
            """() => {
                window.announced = [];
                const watch = new MutationObserver((changes) => {
                    for (const { target } of changes) {
                        const live = (target.nodeType === 1 ? target : target.parentElement).closest(
                            "[aria-live], [role=status], [role=alert], [role=log], output");
                        if (live) window.announced.push(live.textContent);
                    }
                });
                watch.observe(document.body, { childList: true, subtree: true, characterData: true });
            }"""
        )
        await chat.ask(asking("Hello", slow=0.05, words=10))
        assert await chat.answers.last.get_attribute("aria-busy") is None
        said = await chat.answer.inner_text()
        announced = [sentence.strip() for sentence in await chat.page.evaluate("window.announced")]
        assert announced == ["The agent is answering.", f"The agent answered: {said}"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_and_controls_have_enough_contrast(browser: Browser, service: Service, scheme: str) -> None:
    async with open_chat(browser, service.url, color_scheme=scheme) as chat:
        colours: dict[str, str] = await chat.page.evaluate(
            """() => {
                const style = getComputedStyle(document.documentElement);
                const names = ["ground", "surface", "ink", "muted", "accent", "on-accent", "mine", "problem",
                    "problem-ground", "note", "edge"];
                return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`)]));
            }"""
        )
        assert (_luminance(colours["ground"]) > 0.5) == (scheme == "light")
        texts = ["ink ground", "ink surface", "ink mine", "muted ground", "muted surface", "on-accent accent"]
        texts += ["problem problem-ground", "problem ground", "note ground"]
        contrast = {pair: _contrast(*(colours[name] for name in pair.split())) for pair in texts}
        assert {pair: value for pair, value in contrast.items() if value < TEXT_CONTRAST} == {}
        # The edges of fields and buttons, and the focus indicator.
        for pair in ("edge surface", "edge ground", "accent ground", "accent surface"):
            assert _contrast(*(colours[name] for name in pair.split())) >= CONTROL_CONTRAST, pair


async def test_reduced_motion_turns_animations_off(browser: Browser, service: Service) -> None:
    for wish, animation in (("reduce", "none"), ("no-preference", "wait")):
        async with open_chat(browser, service.url, reduced_motion=wish) as chat:
            await chat.say(asking("Hello", hold="motion"))
            await chat.answers.wait_for()
            seen = "getComputedStyle(document.querySelector('.answer .text'), '::after').animationName"
            assert await chat.page.evaluate(seen) == animation


async def test_a_narrow_viewport_needs_no_horizontal_scrolling(browser: Browser, service: Service) -> None:
    # WCAG 2.2, 1.4.10: 320 CSS pixels are the width of a common screen at a zoom of 400 %.
    async with open_chat(browser, service.url, viewport={"width": 320, "height": 480}) as chat:
        await chat.ask("wide" * 100)
        assert await chat.page.evaluate("document.documentElement.scrollWidth") == 320
        for control in (chat.message, chat.send_button, chat.new_button):
            await expect(control).to_be_in_viewport(ratio=1)


async def test_the_newest_text_stays_in_view_unless_the_user_scrolled_up(browser: Browser, service: Service) -> None:
    async with open_chat(browser, service.url, viewport={"width": 800, "height": 500}) as chat:
        await chat.ask(asking("Hello", words=600))
        await expect(chat.facts).to_be_in_viewport()
        await chat.say(asking("Hello", slow=0.02, words=150))
        await expect(chat.answer).to_contain_text("word50")
        await chat.page.evaluate("scrollTo(0, 0)")
        await expect(chat.facts).to_have_count(2)
        assert await chat.page.evaluate("scrollY") == 0


def _contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours in the form #rrggbb (WCAG 2.2, contrast ratio)."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    """Return the relative luminance of a colour (WCAG 2.2)."""
    shares = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
