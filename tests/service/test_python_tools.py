"""`agent-service tools FILE`: the functions with `@tool` of a Python file, as an MCP server for official clients."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import httpx
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ImageContent, TextContent

from support.eventually import eventually
from support.python_file import RunningFile, running_file

pytestmark = pytest.mark.timing

Mode = Literal["legacy", "auto"]
MODES: tuple[Mode, ...] = ("legacy", "auto")
"""The revisions with a handshake, and 2026-07-28."""

HEAD = "from portside import tool\n"


class Run(Protocol):
    """Writes a file, and serves its tools."""

    def __call__(self, source: str, *options: str, **variables: str) -> RunningFile: ...


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with ExitStack() as stack:

        def start(source: str, *options: str, **variables: str) -> RunningFile:
            file = tmp_path / "my_tools.py"
            file.write_text(source, encoding="utf-8")
            return stack.enter_context(running_file(file, *options, command="tools", **variables))

        yield start


@asynccontextmanager
async def connected(served: RunningFile, mode: Mode = "auto") -> AsyncIterator[Client]:
    async with Client(streamable_http_client(f"{served.url}/mcp"), mode=mode) as client:
        yield client


async def call(served: RunningFile, name: str, mode: Mode = "auto", **arguments: Any) -> CallToolResult:
    async with connected(served, mode) as client:
        return await client.call_tool(name, arguments)


def text(result: CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


TYPES = '''
from __future__ import annotations
import asyncio, enum
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal, Optional
from pydantic import BaseModel, Field
from portside import tool

class Unit(enum.Enum):
    metric = "metric"
    imperial = "imperial"

@dataclass
class Place:
    city: str
    country: str = "DE"

class Report(BaseModel):
    place: Place
    days: list[int]
    note: Optional[str] = None

@tool
def forecast(
    place: Place,
    days: Annotated[int, Field(ge=1, le=7, description="Days from today")],
    unit: Unit = Unit.metric,
    kind: Literal["short", "long"] = "short",
    start: date | None = None,
    schema: list[str] = [],
) -> Report:
    """Return the forecast.

    For at most a week.
    """
    assert isinstance(place, Place) and isinstance(unit, Unit) and (start is None or isinstance(start, date))
    return Report(place=place, days=list(range(days)), note=f"{unit.value} {kind} {start} {schema}")

@tool(name="wait", description="Wait, then answer.")
async def some_function(reports: list[Report] = ()) -> str:
    await asyncio.sleep(0)
    return f"{len(reports)} reports, {type(reports).__name__}"
'''


@pytest.mark.parametrize("mode", MODES)
async def test_a_tool_follows_from_a_function_and_its_types(run: Run, mode: Mode) -> None:
    served = run(TYPES)
    async with connected(served, mode) as client:
        first, second = (await client.list_tools()).tools
        result = await client.call_tool(
            "forecast", {"place": {"city": "Bonn"}, "days": 2, "start": "2026-11-30", "schema": ["a"]}
        )
        waited = await client.call_tool("wait", {})
    assert (first.name, first.description) == ("forecast", "Return the forecast.\n\nFor at most a week.")
    properties = first.input_schema["properties"]
    assert first.input_schema["type"] == "object"
    assert first.input_schema["required"] == ["place", "days"]
    assert first.input_schema["additionalProperties"] is False
    assert properties["days"] == {"type": "integer", "minimum": 1, "maximum": 7, "description": "Days from today"}
    assert properties["kind"] == {"type": "string", "enum": ["short", "long"], "default": "short"}
    assert properties["schema"] == {"type": "array", "items": {"type": "string"}, "default": []}
    assert list(properties) == ["place", "days", "unit", "kind", "start", "schema"]
    assert (second.name, second.description) == ("wait", "Wait, then answer.")
    assert text(result) == (
        '{"place":{"city":"Bonn","country":"DE"},"days":[0,1],"note":"metric short 2026-11-30 [\'a\']"}'
    )
    assert text(waited) == "0 reports, tuple"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"place": {"city": "Bonn"}}, "days: Field required"),
        ({"place": {"city": 3}, "days": 1}, "place.city: Input should be a valid string"),
        ({"place": {"city": "Bonn"}, "days": 99}, "days: Input should be less than or equal to 7"),
        ({"place": {"city": "Bonn"}, "days": 1, "kind": "huge"}, "kind: Input should be 'short' or 'long'"),
        ({"place": {"city": "Bonn"}, "days": 1, "more": 1}, "more: is no argument of this tool"),
    ],
)
async def test_invalid_arguments_are_an_error_that_names_the_argument(
    run: Run, arguments: dict[str, Any], words: str
) -> None:
    served = run(TYPES)
    result = await call(served, "forecast", **arguments)
    assert result.is_error
    assert text(result) == f"Invalid arguments. {words}"
    assert "raised an exception" not in served.log()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("'text \\ud83d'", "text \N{REPLACEMENT CHARACTER}"),
        ("None", "The tool returned nothing."),
        ("{'a': [1, 2.5, None, True], 'b': (1,)}", '{"a":[1,2.5,null,true],"b":[1]}'),
        ("['a', 'b']", '["a","b"]'),
        ("__import__('datetime').date(2026, 1, 2)", '"2026-01-02"'),
        ("float('nan')", "NaN"),
    ],
)
async def test_a_result_is_text_or_json(run: Run, value: str, expected: str) -> None:
    served = run(f"{HEAD}@tool\ndef get():\n    return {value}\n")
    result = await call(served, "get")
    assert not result.is_error
    assert text(result) == expected


async def test_a_result_may_be_content_blocks(run: Run) -> None:
    served = run(
        "from mcp_types import TextContent\nfrom portside import Image, tool\n"
        "@tool\ndef picture():\n    return ['A picture:', Image(b'\\x89PNG'), TextContent(text='and its text')]\n"
    )
    first, image, last = (await call(served, "picture")).content
    assert isinstance(image, ImageContent)
    assert (image.data, image.mime_type) == ("iVBORw==", "image/png")
    assert [block.text for block in (first, last) if isinstance(block, TextContent)] == ["A picture:", "and its text"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("b'bytes'", "a tool returned bytes; return text, or portside.Image(data)"),
        ("object()", "a tool returned object, which is no JSON"),
        ("(lambda a: a.append(a) or a)([])", "a tool returned list, which is no JSON"),
    ],
)
async def test_a_value_that_is_no_result_is_an_error_and_in_the_log_with_its_place(
    run: Run, value: str, words: str
) -> None:
    served = run(f"{HEAD}@tool\ndef get():\n    return {value}\n")
    result = await call(served, "get")
    assert result.is_error
    assert words in text(result)
    (line,) = served.lines("Tool returned no result")
    assert str(line["place"]).endswith("my_tools.py:2")


def test_a_result_that_is_too_large_is_cut(run: Run) -> None:
    served = run(
        "from portside import Image, tool\n@tool\ndef text():\n    return 'x' * 2**24 + 'y'\n"
        "@tool\ndef image():\n    return [Image(b'x' * 2**24)]\n"
    )
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "text", "arguments": {}}}
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}
    answered = httpx.post(f"{served.url}/mcp", json=body, headers=headers, timeout=60).text
    assert "xxx\\n[cut: the result has 16777217 characters, of which 16777216 are shown]" in answered
    assert text(asyncio.run(call(served, "image"))) == "[left out: the result exceeds 16 MiB]"


@pytest.mark.parametrize("form", ["def", "async def"])
async def test_an_exception_is_an_error_without_a_traceback_and_in_the_log_with_its_place(run: Run, form: str) -> None:
    served = run(
        f"{HEAD}def helper():\n    raise ValueError('No such city, api_key=sk-abcdefghijklmnop')\n"
        f"@tool\n{form} get():\n    helper()\n"
    )
    result = await call(served, "get")
    assert result.is_error
    assert text(result) == "The tool get failed: ValueError: No such city, api_key=***"
    (line,) = served.lines("Tool raised an exception")
    assert (Path(str(line["file"])).name, line["line"], line["tool"]) == ("my_tools.py", 3, "get")
    assert "sk-abcdef" not in served.log()


@pytest.mark.parametrize(
    "body",
    [
        "import sys; sys.exit(3)",
        "raise StopIteration",
        "raise BaseException",
        "raise TimeoutError",
        "import asyncio; raise asyncio.CancelledError",
    ],
)
@pytest.mark.parametrize("form", ["def", "async def"])
async def test_the_process_survives_what_a_tool_raises(run: Run, form: str, body: str) -> None:
    served = run(f"{HEAD}@tool\n{form} get():\n    {body}\n@tool\ndef fine():\n    return 'fine'\n")
    failed = await call(served, "get")
    assert failed.is_error
    assert text(failed).startswith("The tool get failed: ")
    assert text(await call(served, "fine")) == "fine"


async def test_a_tool_that_does_not_exist_is_an_error_of_the_protocol(run: Run) -> None:
    served = run(f"{HEAD}@tool\ndef get():\n    return ''\n")
    async with connected(served) as client:
        with pytest.raises(MCPError, match="Unknown tool: put"):
            await client.call_tool("put", {})


async def test_blocking_functions_run_side_by_side_in_threads(run: Run) -> None:
    served = run(
        f"import threading\n{HEAD}arrived = threading.Barrier(20)\n"
        "@tool\ndef get(number: int):\n    arrived.wait(60)\n    return str(number)\n"
    )
    async with connected(served) as client:
        results = await asyncio.gather(*(client.call_tool("get", {"number": number}) for number in range(20)))
    assert [text(result) for result in results] == [str(number) for number in range(20)]


async def test_the_number_of_threads_is_bounded_and_further_calls_wait(run: Run, tmp_path: Path) -> None:
    served = run(
        f"import threading, time, pathlib\n{HEAD}lock = threading.Lock()\nnow = most = 0\n"
        "@tool\ndef get():\n    global now, most\n    with lock:\n        now += 1\n        most = max(most, now)\n"
        "    print('It runs')\n"
        f"    while not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.02)\n"
        "    with lock: now -= 1\n    return 'done'\n"
        "@tool\nasync def highest() -> int:\n    return most\n"
    )
    async with connected(served) as client:
        calls = [asyncio.create_task(client.call_tool("get", {})) for _ in range(40)]
        await asyncio.to_thread(eventually, lambda: served.log().count("It runs") == 32, "all threads are busy")
        (tmp_path / "go").touch()
        assert {text(result) for result in await asyncio.gather(*calls)} == {"done"}
        assert text(await client.call_tool("highest", {})) == "32"


@pytest.mark.parametrize("body", ["time.sleep(600)", "asyncio.run(asyncio.sleep(600))"])
async def test_a_call_of_a_plain_function_ends_with_its_timeout_and_does_not_keep_the_process(
    run: Run, body: str
) -> None:
    served = run(f"import asyncio, time\n{HEAD}@tool(timeout=0.2)\ndef get():\n    {body}\n")
    result = await call(served, "get")
    assert (result.is_error, text(result)) == (True, "The tool get did not finish within 0.2 s.")
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0


async def test_the_timeout_cancels_an_asynchronous_function(run: Run) -> None:
    served = run(
        f"import asyncio\n{HEAD}@tool(timeout=0.2)\nasync def get():\n"
        "    try:\n        await asyncio.sleep(600)\n    finally:\n        print('It was cancelled')\n"
    )
    result = await call(served, "get")
    assert (result.is_error, text(result)) == (True, "The tool get did not finish within 0.2 s.")
    assert "It was cancelled" in served.log()


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
async def test_a_caller_that_disconnects_cancels_the_function(run: Run, version: str) -> None:
    served = run(
        f"import asyncio\n{HEAD}@tool\nasync def get():\n    print('It has started')\n"
        "    try:\n        await asyncio.sleep(600)\n    except asyncio.CancelledError:\n"
        "        print('It was cancelled')\n        raise\n"
    )
    meta = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "get", "arguments": {}, "_meta": meta}
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": version,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "get",
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    async with httpx.AsyncClient(timeout=60) as client:
        calling = asyncio.create_task(client.post(f"{served.url}/mcp", json=body, headers=headers))
        await asyncio.to_thread(eventually, lambda: "It has started" in served.log(), "the function runs")
        calling.cancel()
        await asyncio.wait({calling})
    await asyncio.to_thread(eventually, lambda: "It was cancelled" in served.log(), "the function is cancelled")
    assert served.lines("raised an exception") == []
    assert "Traceback" not in served.log()


async def test_an_asynchronous_tool_that_blocks_the_loop_is_logged_with_its_place(run: Run) -> None:
    served = run(f"import time\n{HEAD}@tool\nasync def get():\n    time.sleep(3)\n    return 'awake'\n")
    assert text(await call(served, "get")) == "awake"
    (line,) = served.lines("Tool blocks all calls")
    assert (Path(str(line["file"])).name, line["line"]) == ("my_tools.py", 5)


@pytest.mark.parametrize("mode", MODES)
async def test_the_calls_in_progress_are_finished_at_the_end(run: Run, tmp_path: Path, mode: Mode) -> None:
    served = run(
        f"import asyncio, pathlib\n{HEAD}@tool\nasync def get():\n    print('It has started')\n"
        f"    while not pathlib.Path({str(tmp_path / 'go')!r}).exists(): await asyncio.sleep(0.02)\n    return 'done'\n"
    )
    async with connected(served, mode) as client:
        # It needs the list after the call, too.
        await client.list_tools()
        calling = asyncio.create_task(client.call_tool("get", {}))
        await asyncio.to_thread(eventually, lambda: "It has started" in served.log(), "the function runs")
        served.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(eventually, lambda: "is ending" in served.log(), "the process is ending")
        (tmp_path / "go").touch()
        assert text(await calling) == "done"
    assert await asyncio.to_thread(served.process.wait, 30) == 0
    assert "Traceback" not in served.log()
