"""The page about usage in a real Chromium, in front of a real service."""

import asyncio
import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.async_api import Browser, Route, expect

from support.agent import Service, running_service
from support.browser.chat import open_chat
from support.redis_server import RedisServer

pytestmark = [pytest.mark.timing, pytest.mark.asyncio(loop_scope="module")]

WEB, OPS = "key-of-the-web-client-01", "key-of-the-operators-01"


@pytest.fixture(scope="module")
def agent(redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An agent that two clients have asked, of which one may read all usage."""
    with running_service(
        tmp_path_factory.mktemp("usage"),
        MODEL_PROVIDER="echo",
        API_KEYS=f"acme/web: {WEB}, ops: {OPS}",
        USAGE_READERS="ops",
        CLIENT_BUDGET_TOKENS="5000",
        PRICE_OUTPUT="1000000",
        REDIS_URL=redis_process.url,
        STATE_PREFIX="page-usage",
    ) as service:
        for key in (WEB, WEB, OPS):
            headers = {"Authorization": f"Bearer {key}"}
            answer = httpx.post(f"{service.url}/chat", json={"message": "hello"}, headers=headers, timeout=60)
            assert answer.status_code == 200
        yield service


async def test_a_client_sees_its_own_usage_and_its_limits(browser: Browser, agent: Service) -> None:
    async with open_chat(browser, f"{agent.url}/page/usage.html") as page:
        await page.key.fill("not-a-key-of-this-agent")
        await page.key.press("Enter")
        await expect(page.key).to_have_accessible_description("The agent did not accept that key. Try another one.")
        await page.key.fill(WEB)
        await page.key.press("Enter")
        rows = page.page.get_by_role("region", name="Your usage").get_by_role("row")
        await expect(rows).to_have_count(3)
        await expect(rows.nth(1).get_by_role("rowheader")).to_have_text("acme/web")
        await expect(rows.nth(1).get_by_role("cell").nth(1)).to_have_text("5,000")
        await expect(rows.nth(2).get_by_role("rowheader")).to_have_text("all of acme")
        tokens, _, cost, _ = await rows.nth(1).get_by_role("cell").all_inner_texts()
        assert 0 < float(cost) <= float(tokens)
        await expect(page.page.locator("#spoken")).to_have_text(
            re.compile(rf"^You have used {tokens} tokens in \d{{4}}-\d\d\.$")
        )
        await expect(page.page.get_by_role("heading", name="All clients")).to_be_hidden()
        await expect(page.problem).to_be_hidden()


async def test_a_reader_sees_all_clients_and_the_key_of_the_chat_is_used(browser: Browser, agent: Service) -> None:
    async with open_chat(browser, agent.url) as page:
        link = page.page.get_by_role("link", name="Usage")
        await expect(link).to_be_hidden()
        await page.page.evaluate(f"sessionStorage.setItem('portside.client-key', '{OPS}')")
        await page.page.reload()
        await link.click()
        region = page.page.get_by_role("region", name="All clients")
        await expect(region.get_by_role("row")).to_have_count(3)
        web = region.get_by_role("row").filter(has_text="acme/web")
        await expect(web.get_by_role("cell").first).to_have_text("acme")
        await expect(web.get_by_role("cell").nth(1)).to_have_text("2")
        await page.page.get_by_label("Since").fill("2001-01-01")
        await page.page.get_by_role("button", name="Show").click()
        await expect(region.get_by_role("row")).to_have_count(3)
        await page.page.get_by_role("button", name="Forget key").click()
        await expect(page.key).to_be_focused()
        await expect(region).to_be_hidden()


async def test_days_without_usage_and_an_agent_that_is_away_are_shown_as_such(browser: Browser, agent: Service) -> None:
    async with open_chat(browser, f"{agent.url}/page/usage.html") as page:
        await page.key.fill(OPS)
        await page.key.press("Enter")
        region = page.page.get_by_role("region", name="All clients")
        await expect(region.get_by_role("row")).to_have_count(3)
        await page.page.get_by_label("Since").fill("9000-01-01")
        await page.page.get_by_role("button", name="Show").click()
        await expect(region.locator(".facts")).to_contain_text("No client used the agent from 9000-01-01")
        await expect(page.page.locator("#spoken")).to_contain_text("No client used the agent")
        await expect(region.get_by_role("table")).to_be_hidden()
        await page.page.context.set_offline(True)
        await page.page.get_by_role("button", name="Show").click()
        await expect(page.problem).to_contain_text("The connection to the agent failed")
        await page.page.context.set_offline(False)
        await page.page.get_by_label("Since").fill("2001-01-01")
        await page.page.get_by_role("button", name="Show").click()
        await expect(region.get_by_role("row")).to_have_count(3)
        await expect(page.problem).to_be_hidden()


async def test_usage_that_arrives_after_the_key_was_forgotten_is_not_shown(browser: Browser, agent: Service) -> None:
    async with open_chat(browser, f"{agent.url}/page/usage.html") as page:
        answer = asyncio.Event()

        async def late(route: Route) -> None:
            found = await route.fetch()
            await answer.wait()
            await route.fulfill(response=found)

        await page.key.fill(OPS)
        async with page.page.expect_response("**/usage/history*"):
            await page.key.press("Enter")
        region = page.page.get_by_role("region", name="All clients")
        await expect(region).to_be_visible()
        await page.page.route("**/usage/history*", late)
        async with page.page.expect_request("**/usage/history*"):
            await page.page.get_by_role("button", name="Show").click()
        await page.page.get_by_role("button", name="Forget key").click()
        await expect(page.key).to_be_focused()
        answer.set()
        await page.page.unroute_all(behavior="wait")
        await expect(region).to_be_hidden()


async def test_a_narrow_viewport_scrolls_the_table_and_not_the_page(browser: Browser, agent: Service) -> None:
    viewport = {"width": 320, "height": 480}
    async with open_chat(browser, f"{agent.url}/page/usage.html", viewport=viewport) as page:
        await page.key.fill(OPS)
        await page.key.press("Enter")
        await expect(page.page.get_by_role("region", name="All clients")).to_be_visible()
        assert await page.page.evaluate("document.documentElement.scrollWidth") == 320


async def test_an_agent_without_keys_says_that_it_counts_no_clients(browser: Browser, service: Service) -> None:
    async with open_chat(browser, f"{service.url}/page/usage.html") as page:
        await expect(page.problem).to_contain_text("has no client keys")
