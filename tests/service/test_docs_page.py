"""The API reference at `/docs`: served by the agent alone, so that it works offline, and under a strict policy."""

import re

import httpx
import pytest
from playwright.async_api import Browser, Route, expect

from support.agent import MakeClient, Service, StartService

pytestmark = [pytest.mark.timing]

FILES = ("docs.css", "docs.js", "theme.css", "icon.svg")


async def test_the_page_loads_only_the_agents_own_files_under_a_strict_policy(make_client: MakeClient) -> None:
    client = await make_client()
    page = await client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert set(re.findall(r'(?:src|href)="docs/([^"]+)"', page.text)) == set(FILES)
    assert "<script>" not in page.text
    for path in ("/docs", *(f"/docs/{name}" for name in FILES)):
        answer = await client.get(path)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "http" not in re.sub(r"http://www\.w3\.org/\d+/\w+", "", answer.text), f"{path} names another place"


@pytest.mark.parametrize("path", ["/docs/", "/docs/docs.html", "/docs/nothing.js", "/docs/..%2fapp.py", "/redoc",
                                  "/docs/oauth2-redirect"])  # fmt: skip
async def test_paths_that_are_not_files_of_the_page_are_not_found(make_client: MakeClient, path: str) -> None:
    assert (await (await make_client()).get(path)).status_code in {307, 404}


async def test_the_page_and_its_files_are_off_in_production(make_client: MakeClient) -> None:
    client = await make_client(environment="production", chat_page=True)
    for path in ("/docs", "/docs/docs.js", "/docs/theme.css", "/openapi.json"):
        assert (await client.get(path)).status_code == 404


@pytest.mark.asyncio(loop_scope="module")
async def test_in_a_browser_that_reaches_only_the_agent_it_shows_every_endpoint_and_sends_requests(
    browser: Browser, start_service: StartService
) -> None:
    key = "a-client-key-of-some-length"
    service = start_service(MODEL_PROVIDER="echo", API_KEYS=key, RATE_LIMIT_REQUESTS="0")
    context = await browser.new_context()
    page = await context.new_page()
    problems: list[str] = []

    async def own_only(route: Route) -> None:
        if route.request.url.startswith(service.url):
            await route.continue_()
        else:
            problems.append(f"asked for {route.request.url}")
            await route.abort()

    await context.route("**/*", own_only)
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    await page.goto(f"{service.url}/docs")
    document = _document(service)
    operations = [f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods]
    for operation in operations:
        await expect(page.get_by_text(operation, exact=True)).to_be_visible()
    for name in document["components"]["schemas"]:
        await expect(page.locator(f"section#{name} h3")).to_have_text(name)
    await page.get_by_label("Client key").fill(key)
    chat = page.locator("details", has=page.get_by_text("POST /chat", exact=True))
    await chat.locator("summary").click()
    await expect(chat.get_by_label("Body")).to_have_value(re.compile('"message": "Hello"'))
    await chat.get_by_label("Body").fill('{"message": "<img src=x onerror=alert(1)>"}')
    await chat.get_by_role("button", name="Send").click()
    await expect(chat.locator("pre")).to_contain_text("200 OK")
    await expect(chat.locator("pre")).to_contain_text("You said: <img src=x")
    stream = page.locator("details", has=page.get_by_text("POST /chat/stream", exact=True))
    await stream.locator("summary").click()
    await stream.get_by_role("button", name="Send").click()
    await expect(stream.locator("pre")).to_contain_text('"type":"done"')
    listed = page.locator("details", has=page.get_by_text("GET /tasks", exact=True))
    await listed.locator("summary").click()
    await listed.get_by_label("limit").fill("3")
    await listed.get_by_role("button", name="Send").click()
    await expect(listed.locator("pre")).to_contain_text('{"tasks":[]')
    assert problems == []
    await context.close()


def _document(service: Service) -> dict[str, dict[str, dict[str, object]]]:
    found: dict[str, dict[str, dict[str, object]]] = httpx.get(f"{service.url}/openapi.json").json()
    return found
