"""`agent-service runtime FILE`: a Python file that answers the protocol `invocations`, as a process."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import httpx
import pytest

from stand_in import StandIn, asking
from support.agent import run_agent_service
from support.eventually import eventually
from support.python_file import RunningFile, events, running_file

pytestmark = pytest.mark.timing


class Run(Protocol):
    """Writes a file, and runs it."""

    def __call__(self, source: str, *options: str, **variables: str) -> RunningFile: ...


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with ExitStack() as stack:

        def start(source: str, *options: str, **variables: str) -> RunningFile:
            file = tmp_path / "my_agent.py"
            file.write_text(source, encoding="utf-8")
            return stack.enter_context(running_file(file, *options, **variables))

        yield start


def test_a_function_that_returns_answers_as_json_or_as_events(run: Run) -> None:
    agent = run('async def answer(turn):\n    return f"You said: {turn.message}"\n')
    answered = agent.ask("Hello")
    assert (answered.status_code, answered.json()) == (200, {"response": "You said: Hello"})
    streamed = agent.ask("Hello", headers={"Accept": "text/event-stream"})
    assert events(streamed) == ["You said: Hello", {"type": "done"}]
    assert httpx.get(f"{agent.url}/ping").json() == {"status": "Healthy"}


def test_a_generator_answers_as_events_while_it_runs(run: Run, tmp_path: Path) -> None:
    agent = run(
        "import asyncio, pathlib\n"
        "async def answer(turn):\n"
        "    yield 'a \\ud83d'\n"
        f"    while not pathlib.Path({str(tmp_path / 'go')!r}).exists(): await asyncio.sleep(0.02)\n"
        "    yield 'b\\n'\n"
    )
    with httpx.stream("POST", f"{agent.url}/invocations", json={"prompt": ""}, timeout=60) as streamed:
        lines = streamed.iter_lines()
        assert next(lines) == 'data: "a \N{REPLACEMENT CHARACTER}"'
        (tmp_path / "go").touch()
        assert [line for line in lines if line] == ['data: "b\\n"', 'data: {"type":"done"}']


def test_many_turns_run_concurrently(run: Run) -> None:
    agent = run(
        "import asyncio\n"
        "arrived = 0\n"
        "async def answer(turn):\n"
        "    global arrived\n"
        "    arrived += 1\n"
        "    while arrived < 20: await asyncio.sleep(0.01)\n"
        "    return turn.message\n"
    )
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: agent.ask(str(number)).json()["response"], range(20)))
    assert answers == [str(number) for number in range(20)]


def test_a_caller_that_disconnects_cancels_the_function(run: Run) -> None:
    agent = run(
        "import asyncio\n"
        "async def answer(turn):\n"
        "    yield 'started'\n"
        "    try:\n"
        "        await asyncio.Event().wait()\n"
        "    except asyncio.CancelledError:\n"
        "        print('The turn was cancelled')\n"
        "        raise\n"
    )
    with httpx.stream("POST", f"{agent.url}/invocations", json={"prompt": ""}, timeout=60) as streamed:
        assert next(streamed.iter_lines()) == 'data: "started"'
    eventually(lambda: "The turn was cancelled" in agent.log(), "the function is cancelled")
    assert agent.lines("raised an exception") == []


def test_an_exception_is_logged_with_its_place_and_answered_without_its_text(run: Run) -> None:
    agent = run(
        "def helper():\n"
        "    raise ValueError('private detail, api_key=sk-abcdefghijklmnop')\n"
        "async def answer(turn):\n"
        "    if turn.message == 'late':\n"
        "        yield 'first'\n"
        "    helper()\n"
    )
    early = agent.ask("early", headers={"X-Request-ID": "req-7"})
    assert early.status_code == 500
    assert early.json() == {"error": "The agent's file raised an error; its log has the details."}
    late = agent.ask("late")
    assert events(late) == ["first", {"type": "error", "message": early.json()["error"]}]
    line, _ = agent.lines("raised an exception")
    assert (Path(str(line["file"])).name, line["line"], line["error"]) == ("my_agent.py", 2, "ValueError")
    assert line["message"] == "private detail, api_key=***"
    assert line["request_id"] == "req-7"
    assert "agent_service" not in str(line["traceback"])
    assert "sk-abcdef" not in agent.log()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("return None", "`answer` returned NoneType; it must return str"),
        ("return 3", "`answer` returned int"),
        ("yield b'x'", "`answer` yielded bytes; it must yield str"),
        ("import sys; sys.exit(3); return ''", "SystemExit"),
        ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
        ("return turn.no_such_attribute", "AttributeError"),
        ("return 'x' * (2**24 + 1)", "too large"),
    ],
)
def test_an_answer_that_fails_is_an_error_and_the_process_goes_on(run: Run, body: str, error: str) -> None:
    agent = run(f"async def answer(turn):\n    if turn.message == 'ok': return_ = 1\n    {body}\n")
    failed = agent.ask()
    assert failed.status_code == 500
    assert failed.json()["error"].startswith(("The agent's file", "The answer of the agent's file"))
    assert error in agent.log()
    assert agent.ask().status_code == 500


def test_a_turn_that_blocks_the_event_loop_is_logged_once_with_its_place(run: Run) -> None:
    agent = run("import time\nasync def answer(turn):\n    time.sleep(3)\n    return 'awake'\n")
    assert agent.ask().json() == {"response": "awake"}
    assert agent.ask().json() == {"response": "awake"}
    (line,) = agent.lines("blocks all turns")
    assert (Path(str(line["file"])).name, line["line"]) == ("my_agent.py", 3)


def test_what_the_file_prints_appears_in_the_log(run: Run) -> None:
    agent = run(
        "async def answer(turn):\n    print('printed', turn.message)\n    turn.log.info('Logged')\n    return ''\n"
    )
    agent.ask("Hello", headers={"X-Request-ID": "req-8"})
    assert "printed Hello\n" in agent.log()
    (line,) = agent.lines("Logged")
    assert line["request_id"] == "req-8"


def test_sigterm_finishes_the_turns_in_progress(run: Run) -> None:
    agent = run(
        "import asyncio\n"
        "ending = None\n"
        "async def answer(turn):\n"
        "    yield 'started'\n"
        "    while turn.message != 'go' and not released: await asyncio.sleep(0.02)\n"
        "    yield 'ended'\n"
        "released = False\n"
        "import signal\n"
        "def release(*_):\n"
        "    global released\n"
        "    released = True\n"
        "signal.signal(signal.SIGUSR1, release)\n"
    )
    with httpx.stream("POST", f"{agent.url}/invocations", json={"prompt": ""}, timeout=60) as streamed:
        lines = streamed.iter_lines()
        assert next(lines) == 'data: "started"'
        agent.process.send_signal(signal.SIGTERM)
        eventually(lambda: "is ending" in agent.log(), "the process is ending")
        with pytest.raises(httpx.ConnectError):
            agent.ask()
        agent.process.send_signal(signal.SIGUSR1)
        assert [line for line in lines if line] == ['data: "ended"', 'data: {"type":"done"}']
    assert agent.process.wait(30) == 0
    assert "Traceback" not in agent.log()


def test_a_second_signal_cancels_what_is_left(run: Run) -> None:
    agent = run("import asyncio\nasync def answer(turn):\n    yield 'a'\n    await asyncio.Event().wait()\n")
    with httpx.stream("POST", f"{agent.url}/invocations", json={"prompt": ""}, timeout=60) as streamed:
        lines = streamed.iter_lines()
        assert next(lines) == 'data: "a"'
        agent.process.send_signal(signal.SIGTERM)
        eventually(lambda: "is ending" in agent.log(), "the process is ending")
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(30) == 0
    assert "was cut by a second signal" in agent.log()
    assert "Traceback" not in agent.log()


def test_requests_of_another_form_are_refused(run: Run) -> None:
    agent = run("async def answer(turn):\n    return ''\n")
    url = f"{agent.url}/invocations"
    assert httpx.post(url, content=b"{").status_code == 400
    assert httpx.post(url, json={"prompt": "x" * 2**24}).status_code == 413
    assert httpx.post(url, json={"prompt": ""}, headers={"Origin": "http://evil.example"}).status_code == 403
    assert httpx.get(url).status_code == 405


def test_turns_of_other_machines_are_refused_where_that_is_wanted(run: Run) -> None:
    agent = run("async def answer(turn):\n    return ''\n", "--host", "::", "--loopback-only")
    assert agent.ask().status_code == 200
    other = agent.url.replace("127.0.0.1", own_address())
    assert httpx.get(f"{other}/ping").status_code == 200
    assert httpx.post(f"{other}/invocations", json={"prompt": ""}).status_code == 403


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


@pytest.mark.parametrize(
    ("source", "words"),
    [("def answer(turn):\n    return ''\n", "my_agent.py:1: `answer` is not async"), ("x = (\n", "my_agent.py:1: Syn")],
)
def test_a_file_with_an_error_is_one_line_and_exit_code_1(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "my_agent.py").write_text(source)
    ended = run_agent_service("runtime", "my_agent.py", folder=tmp_path)
    assert ended.returncode == 1
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""


def test_a_missing_file_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    ended = run_agent_service("runtime", "missing.py", folder=tmp_path)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1)
    assert "missing.py: cannot be read: No such file or directory" in ended.stderr


def test_the_client_of_a_turn_calls_the_model_with_the_headers_of_the_turn(run: Run, stand_in: StandIn) -> None:
    agent = run(
        "async def answer(turn):\n"
        "    call = turn.anthropic.messages\n"
        "    async with call.stream(model=turn.model, max_tokens=99, messages=turn.messages()) as stream:\n"
        "        async for text in stream.text_stream:\n"
        "            yield text\n",
        ANTHROPIC_BASE_URL=stand_in.url,
        HTTP_PROXY="http://192.0.2.1:9",
        PORTSIDE_MODEL="claude-test",
    )
    answered = agent.ask(asking("Hello"), headers={"baggage": "portside.turn=t1", "X-Request-ID": "req-9"})
    pieces = events(answered)
    assert pieces.pop() == {"type": "done"}
    assert "".join(map(str, pieces))
    request = stand_in.last()
    assert request["model"] == "claude-test"
    assert request["headers"]["baggage"] == "portside.turn=t1"
    assert request["headers"]["x-request-id"] == "req-9"
