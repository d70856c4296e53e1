"""Approvals on the chat page: a real Chromium, a real service, a real MCP server, and the stand-in model."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route, expect

from service.chat_with_tools import EVIL, boxes, call, running_shop, script
from stand_in import StandIn, asking
from support.agent import Service
from support.browser.chat import Chat, open_chat
from support.eventually import eventually
from support.tools_server import ToolsServer

pytestmark = [pytest.mark.timing, pytest.mark.asyncio(loop_scope="module")]

ASKER, APPROVER = "asker-key-000000001", "approver-key-0000001"
TEA, COFFEE = call("picture", item="tea"), call("picture", item="coffee")


@pytest.fixture(scope="module")
def shop_process(
    shared_settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, ToolsServer]]:
    with running_shop(tmp_path_factory.mktemp("shop"), shared_settings) as shop:
        yield shop


@pytest.fixture
def server(shop_process: tuple[Service, ToolsServer]) -> ToolsServer:
    (shop_process[1].folder / "calls").unlink(missing_ok=True)
    return shop_process[1]


@pytest_asyncio.fixture(loop_scope="module")
async def chat(
    browser: Browser, shop_process: tuple[Service, ToolsServer], server: ToolsServer, stand_in: StandIn
) -> AsyncIterator[Chat]:
    async with open_chat(browser, shop_process[0].url) as chat:
        yield chat


async def test_an_approved_call_runs_and_the_answer_goes_on_in_its_place(chat: Chat, server: ToolsServer) -> None:
    await chat.say(asking("tea", calls=[[TEA]]))
    await expect(chat.cards).to_contain_text("picture of the server shop waits for an approval.")
    await expect(chat.cards.locator("time")).to_be_visible()
    assert await boxes(chat.cards) == ['{\n  "item": "tea"\n}']
    await expect(chat.calls.locator("summary")).to_have_text("picture waits for approval")
    assert server.calls() == []

    sent: list[str] = []
    chat.page.on("request", lambda request: sent.append(request.url))
    await chat.approve.dblclick()
    await expect(chat.calls.locator("summary")).to_contain_text("done")
    await expect(chat.answer).to_contain_text("Stand-in heard")
    await expect(chat.facts).to_contain_text("tokens in")
    await expect(chat.cards).to_have_count(0)
    await expect(chat.answers).to_have_count(1)
    assert server.calls() == [("picture", "tea")]
    assert len([url for url in sent if url.endswith("/approvals")]) == 1

    assert set(await chat.ask("And now?")) == {"message", "conversation_id", "background"}


async def test_the_reason_of_a_rejection_reaches_the_model(chat: Chat, server: ToolsServer) -> None:
    await chat.say(asking("tea", calls=[[TEA]]))
    await chat.page.get_by_label("Reason for a rejection").fill("Too expensive.")
    await chat.page.get_by_role("button", name="Reject").click()
    await expect(chat.answer).to_contain_text("Reason: Too expensive.")
    await expect(chat.calls.locator("summary")).to_contain_text("failed")
    assert server.calls() == []


async def test_each_of_several_calls_is_decided(chat: Chat, server: ToolsServer) -> None:
    await chat.say(asking("both", calls=[[TEA, COFFEE]]))
    await expect(chat.cards).to_have_count(2)
    await chat.approve.first.click()
    await expect(chat.cards).to_have_count(1)
    await expect(chat.cards).to_contain_text("coffee")
    await expect(chat.cards).to_be_focused()
    assert server.calls() == []
    await chat.page.get_by_role("button", name="Reject").click()
    await expect(chat.facts).to_contain_text("tokens in")
    assert server.calls() == [("picture", "tea")]


async def test_a_turn_may_wait_again_and_the_keyboard_suffices(chat: Chat, server: ToolsServer) -> None:
    await chat.say(asking("one after the other", calls=[[TEA], [COFFEE]]))
    for item in ("tea", "coffee"):
        await expect(chat.cards).to_contain_text(item)
        await expect(chat.approve).to_be_enabled()
        await chat.approve.focus()
        await chat.page.keyboard.press("Enter")
    await expect(chat.facts).to_contain_text("tokens in")
    assert server.calls() == [("picture", "tea"), ("picture", "coffee")]


async def test_a_stopped_answer_is_cancelled_together_with_the_call_that_runs(chat: Chat, server: ToolsServer) -> None:
    await chat.say(asking("slow", calls=[[call("wait", name="page")]]))
    await chat.approve.click()
    await expect(chat.calls.locator("summary")).to_have_text("wait running")
    await asyncio.to_thread(eventually, lambda: server.calls() == [("wait", "page")], "the call runs")
    await chat.stop_button.click()
    await expect(chat.facts).to_contain_text("the agent will not remember this exchange")
    await expect(chat.calls.locator("summary")).to_have_text("wait no result")
    await asyncio.to_thread(eventually, lambda: ("cancelled", "page") in server.calls(), "the call is cancelled")


async def test_a_call_that_waits_or_runs_is_shown_again_after_a_reload(chat: Chat, server: ToolsServer) -> None:
    await chat.say(asking("both", calls=[[call("price", item="tea"), TEA], [call("wait", name="reload")]]))
    await expect(chat.cards).to_have_count(1)
    await chat.page.reload()
    await expect(chat.cards).to_contain_text("picture of the server shop waits for an approval.")
    await expect(chat.calls.locator("summary")).to_have_text(["price done", "picture waits for approval"])
    assert server.calls() == [("price", "tea")]

    await chat.approve.click()
    await expect(chat.cards).to_contain_text("wait of the server shop")
    await chat.approve.click()
    await expect(chat.calls.last.locator("summary")).to_have_text("wait running")
    await chat.page.reload()
    await expect(chat.calls.locator("summary")).to_have_text(["price done", "picture done", "wait running"])
    await expect(chat.cards).to_have_count(0)
    server.release("reload")
    await expect(chat.facts).to_contain_text("tokens in")
    said = await chat.answer.inner_text()
    assert said.count("Stand-in heard") == said.count("Calling wait.") == 1
    assert server.calls() == [("price", "tea"), ("picture", "tea"), ("wait", "reload")]
    await chat.page.reload()
    await expect(chat.facts).to_have_count(1)
    assert await chat.answer.inner_text() == said


async def test_a_decision_of_another_client_is_shown_after_a_reload(
    chat: Chat, shop_process: tuple[Service, ToolsServer], server: ToolsServer
) -> None:
    async with chat.page.expect_request("**/events") as reading:
        await chat.say(asking("tea", calls=[[TEA, COFFEE]]))
    task = (await reading.value).url.rsplit("/", 2)[1]
    await expect(chat.cards).to_have_count(2)
    service = shop_process[0]
    first, second = (card["id"] for card in service.get(f"/tasks/{task}").json()["approvals"])
    service.post(f"/tasks/{task}/approvals", id=first, approve=True).raise_for_status()
    await chat.page.reload()
    await expect(chat.cards).to_have_count(1)
    await expect(chat.cards).to_contain_text("coffee")
    service.post(f"/tasks/{task}/approvals", id=second, approve=False).raise_for_status()
    await chat.page.reload()
    await expect(chat.facts).to_contain_text("tokens in")
    assert server.calls() == [("picture", "tea")]


async def test_only_an_approver_decides_and_then_the_asker_goes_on(
    browser: Browser,
    shared_settings: dict[str, str],
    stand_in: StandIn,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    approvers = hashlib.sha256(APPROVER.encode()).hexdigest()[:16]
    folder = tmp_path_factory.mktemp("keys")
    with running_shop(folder, shared_settings, API_KEYS=f"{ASKER},{APPROVER}", APPROVERS=approvers) as (
        service,
        server,
    ):
        async with open_chat(browser, service.url) as chat:

            async def with_key(key: str) -> None:
                await chat.key.fill(key)
                await chat.key.press("Enter")

            await chat.say(asking("tea", calls=[[TEA]]))
            await with_key(ASKER)
            await chat.approve.click()
            await expect(chat.problem).to_contain_text("may not decide")
            go_on = chat.page.get_by_role("button", name="Go on when an approver has decided")
            await go_on.click()
            await expect(chat.cards).to_have_count(1)
            await expect(chat.problem).to_be_hidden()
            await expect(chat.approve).to_be_enabled()

            await chat.page.get_by_role("button", name="Forget key").click()
            await chat.approve.click()
            await with_key(APPROVER)
            await expect(chat.answers.last).to_contain_text("The rest of the answer is for the client that asked")

            await chat.page.get_by_role("button", name="Forget key").click()
            await chat.page.get_by_role("button", name="Go on").click()
            await with_key(ASKER)
            await expect(chat.facts).to_contain_text("tokens in")
            assert server.calls() == [("picture", "tea")]


REQUIRED = {
    "type": "input_required",
    "input_tokens": 1,
    "output_tokens": 1,
    "conversation_id": "c",
    "approvals": [
        {
            "id": "t.1",
            "tool": EVIL,
            "server": EVIL,
            "input": {"to": f"a\u202eb{EVIL}"},
            "expires_at": "2026-01-01T10:00Z",
        }
    ],
}


async def test_hostile_arguments_are_shown_as_text_with_their_hidden_characters(chat: Chat) -> None:
    await script(chat, REQUIRED)
    await chat.say("Hello")
    await expect(chat.cards.locator(".name").first).to_have_text(EVIL)
    [shown] = await boxes(chat.cards)
    assert "a\\u202eb" in shown
    assert json.loads(shown) == {"to": f"a\u202eb{EVIL}"}
    assert await chat.page.locator("#talk :is(script, img, a)").count() == 0
    assert await chat.page.evaluate("window.hacked") is None


async def test_arguments_longer_than_their_box_are_announced_as_such(chat: Chat) -> None:
    long = {"id": "t.1", "tool": "pay", "server": "shop", "input": {"to": "me" + " " * 9000 + "you"}}
    await script(chat, REQUIRED | {"approvals": [long | {"expires_at": "2026-01-01T10:00Z"}]})
    await chat.say("Hello")
    await expect(chat.cards.locator(".hint")).to_be_visible()
    await script(chat, REQUIRED)
    await chat.say("Hello")
    await expect(chat.cards.last.locator(".hint")).to_be_hidden()


@pytest.mark.parametrize(
    ("status", "buttons"),
    [
        (403, ["Approve", "Reject", "Go on when an approver has decided"]),
        (404, []),
        (409, ["Go on"]),
        (503, ["Approve", "Reject"]),
    ],
)
async def test_a_refused_decision_is_explained_and_leaves_the_buttons_that_still_help(
    chat: Chat, status: int, buttons: list[str]
) -> None:
    async def refuse(route: Route) -> None:
        await route.fulfill(status=status, json={"detail": f"Refused with {status}."})

    await script(chat, REQUIRED)
    await chat.page.route("**/approvals", refuse)
    await chat.say("Hello")
    await chat.approve.click()
    await expect(chat.cards.get_by_role("alert")).to_have_text(f"Refused with {status}.")
    await expect(chat.cards.get_by_role("button")).to_have_text(buttons)
    for button in await chat.cards.get_by_role("button").all():
        await expect(button).to_be_enabled()
