"""Content negotiation of `GET /`, and the files of the chat page."""

import re
from importlib import resources

import httpx
import pytest

from agent_service.routes.page import prefers_html
from support.agent import MakeClient

# The Accept header that Chrome, Firefox and Safari send on navigation.
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def _open(client: httpx.AsyncClient, path: str = "/", **headers: str) -> httpx.Response:
    return await client.get(path, headers={"Accept": BROWSER, **headers})


async def test_a_browser_gets_the_page_and_a_program_gets_json(make_client: MakeClient) -> None:
    client = await make_client()
    page = await _open(client)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!doctype html>")
    about = await client.get("/")
    assert about.json()["service"] == "portside-agent"
    assert {"GET /", "POST /chat", "POST /chat/stream"} <= set(about.json()["endpoints"])
    # A shared cache must not serve one representation to clients that ask for the other.
    assert page.headers["vary"] == about.headers["vary"] == "Accept"


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("TEXT/HTML;level=1", True),
        ("text/*", True),
        ("application/json;q=0.5, text/html;q=0.6", True),
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("text/html, application/json", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0", False),
        ("text/html;q=nonsense", False),
        ("text/html;q=nan, */*;q=0.1", False),
    ],
)
def test_clients_that_prefer_html_to_json_get_the_page(accept: str, html: bool) -> None:
    assert prefers_html(accept) is html


async def test_every_file_of_the_page_has_security_headers_and_no_external_references(make_client: MakeClient) -> None:
    client = await make_client()
    names = set(re.findall(r'(?:src|href)="page/([^"]+)"', (await _open(client)).text))
    folder = resources.files("agent_service") / "page"
    assert {f"{name}" for name in names} <= {entry.name for entry in folder.iterdir()}
    for path in ("/", *(f"/page/{entry.name}" for entry in folder.iterdir() if entry.name != "index.html")):
        answer = await _open(client, path)
        assert answer.status_code == 200, path
        assert answer.headers["content-security-policy"] == CSP
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "http" not in re.sub(r"http://www\.w3\.org/\d+/\w+", "", answer.text), f"{path} names another place"


async def test_an_unchanged_file_is_304(make_client: MakeClient) -> None:
    client = await make_client()
    for path in ("/", "/page/chat.js"):
        first = await _open(client, path)
        assert first.headers["cache-control"] == "no-cache"
        again = await _open(client, path, **{"If-None-Match": f'"other", W/{first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        changed = await _open(client, path, **{"If-None-Match": '"of an older version"'})
        assert changed.content == first.content


@pytest.mark.parametrize("path", ["/page/", "/page/index.html", "/page/nothing.js", "/page/..%2fapp.py", "/page/%00"])
async def test_unknown_files_of_the_page_are_404(make_client: MakeClient, path: str) -> None:
    client = await make_client()
    assert (await _open(client, path)).status_code == 404


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({"environment": "production"}, False),
        ({"environment": "production", "chat_page": True}, True),
        ({"environment": "staging"}, True),
        ({"environment": "staging", "chat_page": False}, False),
    ],
)
async def test_the_page_is_off_in_production_unless_enabled(
    make_client: MakeClient, settings: dict[str, object], shown: bool
) -> None:
    client = await make_client(api_keys="a-client-key-of-some-length", **settings)
    opened = await _open(client)
    assert opened.status_code == 200
    assert opened.headers["content-type"].startswith("text/html" if shown else "application/json")
    assert (await _open(client, "/page/chat.js")).status_code == (200 if shown else 404)
