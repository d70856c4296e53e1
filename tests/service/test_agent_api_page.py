"""The commands and examples of docs/how-to/call-an-agent.md, run as written there."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.async_api import expect

from support.agent import Service, StartService, environment, running_service
from support.browser import running_browser
from support.redis_server import RedisServer
from testbed.ports import free_port

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "call-an-agent.md").read_text(encoding="utf-8")
CLIENT_KEY = "a-client-key-of-some-length"
SECTIONS = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", "## Start\n" + PAGE, re.MULTILINE | re.DOTALL))

# A command, and the output that the page shows for it.
_COMMANDS = re.compile(r"```bash\n(.*?)```\n+```(?:json|text)\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def site_port() -> int:
    """Return the port of a site of another origin, which the agent allows."""
    return free_port()


@pytest.fixture(scope="module")
def agent(site_port: int, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run the agent that the page starts, with its state in the tests' Redis."""
    with running_service(
        tmp_path_factory.mktemp("agent"),
        MODEL_PROVIDER="echo",
        REDIS_URL=redis_process.url,
        API_RUNS_TASKS="true",
        CORS_ORIGINS=f"http://127.0.0.1:{site_port}",
    ) as running:
        yield running


@pytest.mark.parametrize("title", [title for title, text in SECTIONS.items() if "```bash" in text])
def test_commands_print_what_the_page_shows(title: str, agent: Service, start_service: StartService) -> None:
    keys_needed = title == "Client keys"
    service = start_service(MODEL_PROVIDER="echo", API_KEYS=CLIENT_KEY) if keys_needed else agent
    blocks = _COMMANDS.findall(SECTIONS[title])
    for command, expected in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", _at(service, command)],
            env={**environment(), "KEY": CLIENT_KEY},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        wanted = ".*".join(re.escape(part) for part in _squeezed(expected).split("…"))
        assert re.fullmatch(wanted, _squeezed(done.stdout)), f"{command}\nprinted\n{done.stdout}"


def test_no_command_is_left_out() -> None:
    assert sum(len(_COMMANDS.findall(text)) for text in SECTIONS.values()) == PAGE.count("```bash") > 5
    # Shown but not run, because the tests do the same in their own way.
    shown = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert [block.split()[0] for block in shown] == ["MODEL_PROVIDER=echo"]
    languages = set(re.findall(r"^```(\w+)$", PAGE, re.MULTILINE))
    assert languages == {"bash", "sh", "json", "text", "js", "python"}


async def test_the_javascript_example_works_from_a_page_of_another_origin(
    agent: Service, site_port: int, tmp_path: Path
) -> None:
    [example] = re.findall(r"```js\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "example.js").write_text(_at(agent, example), encoding="utf-8")
    page_of_theirs = '<!doctype html><p id="answer"></p><script type="module" src="example.js"></script>'
    (tmp_path / "index.html").write_text(page_of_theirs, encoding="utf-8")
    with _site(tmp_path, site_port):
        async with running_browser() as browser:
            page = await browser.new_page()
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            sent: list[object] = []
            page.on(
                "request", lambda request: sent.append(request.post_data_json) if request.method == "POST" else None
            )
            await page.goto(f"http://127.0.0.1:{site_port}/")
            await expect(page.locator("#answer")).to_have_text("You said: HelloYou said: And hello again")
            assert errors == []
            first, second = sent
            assert first == {"message": "Hello"}
            assert isinstance(second, dict)
            assert set(second) == {"message", "conversation_id"}


def test_the_python_example_prints_the_answer(agent: Service, tmp_path: Path) -> None:
    [example] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "example.py").write_text(_at(agent, example), encoding="utf-8")
    done = subprocess.run([sys.executable, tmp_path / "example.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"You said: Hello \d+ tokens\n", done.stdout)


def test_every_link_on_the_page_resolves() -> None:
    folder = Path(__file__).parents[2] / "docs" / "how-to"
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", PAGE):
        assert (folder / target).is_file(), target


@contextmanager
def _site(folder: Path, port: int) -> Iterator[None]:
    """Serve the files of a folder."""
    handler = partial(_Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""


def _at(service: Service, text: str) -> str:
    """Return the text with the page's address replaced by that of a service of the tests."""
    return text.replace("http://localhost:8000", service.url).replace("localhost:8000", service.url)


def _squeezed(text: str) -> str:
    """Return the text without line breaks, which are insignificant in JSON."""
    return text.replace("\r", "").replace("\n", "").strip()
