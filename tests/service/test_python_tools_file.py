"""`agent-service tools FILE`: the file itself: its errors, its changes, and who may use it."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Literal, Protocol

import httpx
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from support.agent import run_agent_service
from support.eventually import eventually
from support.python_file import RunningFile, running_file

pytestmark = pytest.mark.timing

HEAD = "from portside import tool\n"
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"Accept": "application/json, text/event-stream"}


class Run(Protocol):
    """Writes a file, and serves its tools."""

    def __call__(self, source: str, *options: str) -> RunningFile: ...


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with ExitStack() as stack:

        def start(source: str, *options: str) -> RunningFile:
            file = tmp_path / "my_tools.py"
            file.write_text(source, encoding="utf-8")
            return stack.enter_context(running_file(file, *options, command="tools"))

        yield start


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = (\n", "my_tools.py:1: SyntaxError: '(' was never closed"),
        ("\nimport no_such_module\n", "my_tools.py:2: ModuleNotFoundError"),
        ("def get(): return ''\n", "my_tools.py: defines no tools; put `@tool`"),
        (f"{HEAD}\n@tool\ndef get(city): return ''\n", "my_tools.py:3: the tool get cannot be used: parameter `city`"),
        (f"{HEAD}@tool\ndef get(city: 'Cty'): return ''\n", "my_tools.py:2: the tool get cannot be used: its type hin"),
        (f"{HEAD}@tool\ndef get(f: object()): return ''\n", "my_tools.py:2: the tool get cannot be used"),
        (
            f"{HEAD}class C: pass\n@tool\ndef get(x: C): return ''\n",
            "my_tools.py:3: the tool get cannot be used: parameter `x` has the type C",
        ),
        (
            f"from collections.abc import Callable\n{HEAD}@tool\ndef get(x: Callable[[], int]): return ''\n",
            "my_tools.py:3: the tool get cannot be used: parameter `x` has the type",
        ),
        (f"{HEAD}@tool\ndef get(*all: int): return ''\n", "parameter `all` takes any number of values"),
        (f"{HEAD}@tool\ndef get(**all: int): return ''\n", "parameter `all` takes any name"),
        (f"{HEAD}@tool\ndef get(a: int, /): return ''\n", "parameter `a` is positional-only"),
        (f"{HEAD}@tool\ndef get():\n    yield ''\n", "my_tools.py:2: the tool get yields"),
        (f"{HEAD}@tool\ndef größe(): return ''\n", "my_tools.py:2: a tool's name has 1 to 64 letters"),
        (f"{HEAD}@tool(name='')\ndef get(): return ''\n", "my_tools.py:2: a tool's name has 1 to 64 letters"),
        (f"{HEAD}@tool(timeout=0)\ndef get(): return ''\n", "my_tools.py:2: ValueError: `timeout` of @tool"),
        (f"{HEAD}@tool\nclass Get: pass\n", "my_tools.py:2: TypeError: @tool must decorate a function, not type"),
        (
            f"{HEAD}@tool\ndef get(): return ''\n@tool(name='get')\ndef other(): return ''\n",
            "my_tools.py:4: the name get is that of the tool at",
        ),
        (
            f"{HEAD}@tool\ndef get(): return ''\n@tool\ndef get(): return 'other'\n",
            "my_tools.py:5: a second tool `get` replaces the first one",
        ),
    ],
)
def test_a_file_with_an_error_is_one_line_with_its_place_and_exit_code_1(
    tmp_path: Path, source: str, words: str
) -> None:
    (tmp_path / "my_tools.py").write_text(source, encoding="utf-8")
    ended = run_agent_service("tools", "my_tools.py", folder=tmp_path)
    assert ended.returncode == 1
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""


def test_the_other_command_says_what_a_file_with_neither_must_define(tmp_path: Path) -> None:
    (tmp_path / "my_agent.py").write_text("x = 1\n")
    ended = run_agent_service("runtime", "my_agent.py", folder=tmp_path)
    assert "defines no `answer`; add `async def answer(turn)`" in ended.stderr
    assert "or functions with `@tool`" in ended.stderr
    (tmp_path / "my_agent.py").write_text(f"{HEAD}@tool\ndef get(): return ''\n")
    ended = run_agent_service("runtime", "my_agent.py", folder=tmp_path)
    assert "Its tools are served by `agent-service tools`" in ended.stderr


def test_the_path_for_probes_reports_a_file_that_is_broken(run: Run) -> None:
    served = run(f"{HEAD}@tool\ndef get(): return ''\n")
    assert httpx.get(f"{served.url}/ping").json() == {"status": "Healthy"}
    served.log_file.with_name("my_tools.py").write_text("x = (\n")
    eventually(lambda: httpx.get(f"{served.url}/ping").json().get("file") == "outdated", "the error is reported")
    (line,) = served.lines("stays in force")
    assert "my_tools.py:1: SyntaxError" in str(line["error"])


def test_requests_of_web_pages_and_of_other_machines_are_refused(run: Run) -> None:
    served = run(f"{HEAD}@tool\ndef get(): return ''\n", "--host", "::", "--loopback-only")
    assert httpx.post(f"{served.url}/mcp", json=CALL, headers=ACCEPT).status_code == 200
    page = httpx.post(f"{served.url}/mcp", json=CALL, headers={**ACCEPT, "Origin": "http://localhost"})
    assert (page.status_code, page.json()) == (403, {"error": "Requests of web pages are refused."})
    assert httpx.post(f"{served.url}/mcp", content=b"x" * (2**24 + 1), headers=ACCEPT).status_code == 413
    other = served.url.replace("127.0.0.1", own_address())
    assert httpx.get(f"{other}/ping").status_code == 200
    assert httpx.post(f"{other}/mcp", json=CALL, headers=ACCEPT).status_code == 403


def own_address() -> str:
    """Return an address of this machine other than loopback."""
    import socket  # noqa: PLC0415

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        address: str = sock.getsockname()[0]
        return address


async def test_a_client_is_informed_of_changed_tools(run: Run, tmp_path: Path) -> None:
    served = run(f"{HEAD}@tool\ndef first(): return ''\n")
    async with (
        Client(streamable_http_client(f"{served.url}/mcp")) as client,
        client.listen(tools_list_changed=True) as changes,
    ):
        (tmp_path / "my_tools.py").write_text(f"{HEAD}@tool\ndef second(): return 'new'\n")
        async with asyncio.timeout(30):
            await anext(aiter(changes))
        assert [tool.name for tool in (await client.list_tools(cache_mode="bypass")).tools] == ["second"]
        assert not (await client.call_tool("second", {})).is_error


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_clients_that_stay_connected_do_not_keep_the_process(run: Run, mode: Literal["legacy", "auto"]) -> None:
    served = run(f"{HEAD}@tool\ndef get(): return ''\n")
    async with Client(streamable_http_client(f"{served.url}/mcp"), mode=mode) as client, AsyncExitStack() as stack:
        await client.list_tools()
        if mode == "auto":
            await stack.enter_async_context(client.listen(tools_list_changed=True))
        served.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(served.process.wait, 30) == 0
    assert "Traceback" not in served.log()


def test_tools_remain_functions_for_answer_and_for_each_other(tmp_path: Path) -> None:
    file = tmp_path / "my_agent.py"
    file.write_text(
        f"{HEAD}@tool\ndef add(a: int, b: int) -> int:\n    return a + b\n"
        "async def answer(turn):\n    return str(add(1, 2))\n"
    )
    with running_file(file) as agent:
        assert agent.ask().json() == {"response": "3"}
    with running_file(file, command="tools") as served:
        answered = httpx.post(f"{served.url}/mcp", json=CALL, headers=ACCEPT)
        assert '"name":"add"' in answered.text
        assert '"name":"answer"' not in answered.text
