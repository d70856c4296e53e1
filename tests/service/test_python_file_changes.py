"""`agent-service runtime FILE` while its file changes, as editors and the kubelet change it."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from support.eventually import eventually
from support.python_file import RunningFile, running_file

pytestmark = pytest.mark.timing


def returns(text: str) -> str:
    """Return a file that answers every turn with this text."""
    return f"async def answer(turn):\n    return {text!r}\n"


# It answers once the file `go` exists, with what its own classes and functions return.
WAITS = """
import asyncio, pathlib, pickle
class Berth:
    name = 'old'
def name():
    return Berth.name
async def answer(turn):
    yield 'started'
    while not pathlib.Path({go!r}).exists(): await asyncio.sleep(0.02)
    yield pickle.loads(pickle.dumps(Berth())).name
    yield name()
"""

# Each takes more than a second to be noticed; fifty are loaded in tests/unit.
VERSIONS = 8

HELD = """
import gc
class Version: pass
held = Version()
async def answer(turn):
    gc.collect()
    import linecache, sys
    versions = [each for each in gc.get_objects() if type(each).__name__ == 'Version']
    modules = [each for each in list(sys.modules) if each.startswith('portside_agent_file')]
    lines = [each for each in list(linecache.cache) if each.endswith('my_agent.py')]
    return f"{number} {{len(versions)}} {{len(modules)}} {{len(lines)}}"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "my_agent.py"


@pytest.fixture
def agent(file: Path) -> Iterator[RunningFile]:
    """A running file that answers `first`."""
    file.write_text(returns("first"))
    with running_file(file) as running:
        yield running


def await_answer(agent: RunningFile, text: str) -> None:
    eventually(lambda: agent.ask().json().get("response") == text, f"the answer is {text!r}")


def answers_as(agent: RunningFile, number: int) -> bool:
    text: str = agent.ask().json()["response"]
    return text.startswith(f"{number} ")


def ping(agent: RunningFile) -> dict[str, str]:
    answer = httpx.get(f"{agent.url}/ping").raise_for_status()
    found: dict[str, str] = answer.json()
    return found


def test_turns_use_a_file_that_was_overwritten_or_replaced(agent: RunningFile, file: Path) -> None:
    await_answer(agent, "first")
    file.write_text(returns("overwritten"))
    await_answer(agent, "overwritten")
    other = file.with_name("my_agent.py.tmp")
    other.write_text(returns("replaced"))
    other.replace(file)
    await_answer(agent, "replaced")
    lines = agent.lines("Loaded my_agent.py again")
    assert [(line["level"], line["file"]) for line in lines] == [("info", str(file))] * 2


def test_a_version_of_the_same_size_and_time_is_noticed(agent: RunningFile, file: Path) -> None:
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_text(returns("other"))
    os.utime(file, ns=times)
    await_answer(agent, "other")


def test_a_config_map_is_used_after_the_kubelet_has_swapped_its_link(tmp_path: Path) -> None:
    mounted = config_map(tmp_path / "mounted")
    publish(mounted, "..2026_11_30_1", returns("first"))
    (mounted / "agent.py").symlink_to("..data/agent.py")
    with running_file(mounted / "agent.py", "--host", "::", "--loopback-only") as agent:
        await_answer(agent, "first")
        publish(mounted, "..2026_11_30_2", returns("second"))
        await_answer(agent, "second")
        publish(mounted, "..2026_11_30_3", "async def answer(turn):\n    return helper(\n")
        (line,) = eventually(lambda: agent.lines("stays in force"), "the error is logged")
        assert str(line["error"]).startswith(f"{mounted / 'agent.py'}:2: SyntaxError")
        await_answer(agent, "second")


def config_map(folder: Path) -> Path:
    folder.mkdir()
    return folder


def publish(mounted: Path, version: str, source: str) -> None:
    """Write a version as the kubelet does (Kubernetes: pkg/volume/util/atomic_writer.go): a folder, then its link."""
    (mounted / version).mkdir()
    (mounted / version / "agent.py").write_text(source)
    before = (mounted / "..data").readlink() if (mounted / "..data").is_symlink() else None
    (mounted / "..data_tmp").symlink_to(version)
    (mounted / "..data_tmp").rename(mounted / "..data")
    if before is not None:
        (mounted / before / "agent.py").unlink()
        (mounted / before).rmdir()


def test_a_turn_in_progress_ends_with_the_version_that_it_began_with(file: Path, tmp_path: Path) -> None:
    file.write_text(WAITS.format(go=str(tmp_path / "go")))
    with (
        running_file(file) as agent,
        httpx.stream("POST", f"{agent.url}/invocations", json={"prompt": ""}, timeout=60) as streamed,
    ):
        lines = streamed.iter_lines()
        assert next(lines) == 'data: "started"'
        file.write_text("class Berth:\n    name = 'new'\n" + returns("new"))
        eventually(lambda: agent.lines("Loaded my_agent.py again"), "the new version is loaded")
        assert agent.ask().json() == {"response": "new"}
        (tmp_path / "go").touch()
        assert [line for line in lines if line] == ['data: "old"', 'data: "old"', 'data: {"type":"done"}']


def test_turns_are_answered_while_a_version_is_loading(agent: RunningFile, file: Path, tmp_path: Path) -> None:
    waits = f"import pathlib, time\nprint('Loading')\nwhile not pathlib.Path({str(tmp_path / 'go')!r}).exists(): "
    file.write_text(waits + "time.sleep(0.02)\n" + returns("second"))
    eventually(lambda: "Loading\n" in agent.log(), "the new version is loading")
    assert agent.ask().json() == {"response": "first"}
    assert ping(agent) == {"status": "Healthy"}
    (tmp_path / "go").touch()
    await_answer(agent, "second")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("async def answer(turn)\n    return ''\n", "my_agent.py:1: SyntaxError"),
        ("x = 1\nraise ValueError('api_key=sk-abcdefghijklmnop')\n", "my_agent.py:2: ValueError: api_key=***"),
        ("import sys\nsys.exit(3)\n", "my_agent.py:2: the file ends the process"),
        ("raise KeyboardInterrupt\n", "my_agent.py:1: KeyboardInterrupt"),
        ("def answer(turn):\n    return ''\n", "my_agent.py:1: `answer` is not asynchronous"),
        ("", "my_agent.py: defines no `answer`"),
    ],
)
def test_a_version_with_an_error_is_logged_once_and_the_one_before_answers(
    agent: RunningFile, file: Path, source: str, words: str
) -> None:
    file.write_text(source)
    (line,) = eventually(lambda: agent.lines("stays in force"), "the error is logged")
    assert (line["level"], words in str(line["error"])) == ("error", True), line
    assert agent.ask().json() == {"response": "first"}
    reported = ping(agent)
    assert (reported["status"], reported["file"]) == ("Healthy", "outdated")
    assert "SyntaxError" not in str(reported)

    # Another change of the file shows that it was checked again after the error.
    file.write_text(returns("mended"))
    await_answer(agent, "mended")
    assert ping(agent) == {"status": "Healthy"}
    assert len(agent.lines("stays in force")) == 1
    assert "Traceback" not in agent.log()


def test_a_file_that_is_removed_answers_until_it_is_back(agent: RunningFile, file: Path) -> None:
    file.unlink()
    (line,) = eventually(lambda: agent.lines("stays in force"), "the error is logged")
    assert "my_agent.py: cannot be read: No such file" in str(line["error"])
    assert agent.ask().json() == {"response": "first"}
    file.write_text(returns("back"))
    await_answer(agent, "back")


def test_many_versions_leave_no_module_behind(file: Path) -> None:
    file.write_text(HELD.format(number=0))
    with running_file(file) as agent:
        for number in range(1, VERSIONS + 1):
            file.write_text(HELD.format(number=number))
            eventually(partial(answers_as, agent, number), f"version {number} answers")
        number, versions, modules, lines = agent.ask().json()["response"].split()
    assert int(number) == VERSIONS
    # The one before is kept for its last turns.
    assert int(versions) <= 2
    assert int(modules) <= 2
    assert int(lines) == 1


def test_a_file_is_loaded_once_where_that_is_wanted(file: Path) -> None:
    file.write_text(returns("first"))
    with running_file(file, "--no-reload") as agent, running_file(file) as other:
        file.write_text(returns("second"))
        await_answer(other, "second")
        assert agent.ask().json() == {"response": "first"}
