"""Loading a Python file as an agent, what is wrong with it, and what its function receives."""

import asyncio
import gc
import linecache
import sys
import weakref
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from agent_service.config.settings import Settings
from agent_service.python_file import turns
from agent_service.python_file.agent_file import AgentFile
from agent_service.python_file.answer_function import find_answer
from agent_service.python_file.failures import describe
from agent_service.python_file.loading import FileError, load
from agent_service.server.runtime_process import environment
from portside import Message, Turn
from portside.models import DEFAULT_MAX_TOKENS, DEFAULT_MODEL, Models

HELLO = "async def answer(turn):\n    return f'You said: {turn.message}'\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Loading adds the file's folder.
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path / "my_agent.py"


def test_a_file_with_an_async_function_is_loaded(file: Path) -> None:
    file.write_text(HELLO)
    loaded = load(file, find_answer)
    assert not loaded.yields
    assert loaded.place == f"{file}:1"
    assert asyncio.run(loaded.answer(Turn(message="Hello"))) == "You said: Hello"


def test_an_async_generator_is_recognised(file: Path) -> None:
    file.write_text("async def answer(turn):\n    yield 'a'\n")
    assert load(file, find_answer).yields


@pytest.mark.parametrize(
    "source",
    [
        "import functools\nasync def f(a, turn): return ''\nanswer = functools.partial(f, 1)\n",
        "class A:\n    async def __call__(self, turn): return ''\nanswer = A()\n",
        "class A:\n    async def ask(self, turn): return ''\nanswer = A().ask\n",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int'\nasync def answer(turn): return ''\n",
        "\ufeffasync def answer(turn): return ''\n",
    ],
)
def test_other_forms_of_the_function_are_accepted(file: Path, source: str) -> None:
    file.write_text(source, encoding="utf-8")
    assert not load(file, find_answer).yields


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("def answer(turn):\n    return ''\n", 1, "`answer` is not asynchronous; write `async def answer(turn)`"),
        ("def answer(turn):\n    yield ''\n", 1, "`answer` is not asynchronous"),
        ("async def answer():\n    return ''\n", 1, "`answer` must take one argument"),
        ("async def answer(turn, more):\n    return ''\n", 1, "`answer` must take one argument"),
        ("x = 1\n", None, "defines no `answer`"),
        ("answer = 3\n", None, "`answer` is not a function"),
        ("x = 1\ny = (\n", 2, "SyntaxError: '(' was never closed"),
        ("\nimport no_such_module\n", 2, "ModuleNotFoundError: No module named 'no_such_module'; install the package"),
        ("x = 1\n\nraise ValueError('Broken')\n", 3, "ValueError: Broken"),
        ("import sys\nsys.exit(0)\n", 2, "sys.exit"),
        ("raise BaseException('Broken')\n", 1, "BaseException: Broken"),
    ],
)
def test_a_file_with_an_error_is_refused_in_one_line(file: Path, source: str, line: int | None, words: str) -> None:
    file.write_text(source)
    with pytest.raises(FileError) as caught:
        load(file, find_answer)
    assert str(caught.value).startswith(f"{file}:{line}: " if line else f"{file}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(file: Path) -> None:
    with pytest.raises(FileError, match="cannot be read: No such file"):
        load(file, find_answer)
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        load(file.parent, find_answer)
    file.write_bytes(b"# one\n# caf\xe9\n")
    with pytest.raises(FileError, match=r"my_agent\.py:2: is not UTF-8 text"):
        load(file, find_answer)
    file.write_bytes(b"#" * 2**23)
    with pytest.raises(FileError, match="is larger than 4 MiB"):
        load(file, find_answer)


def test_a_file_named_like_a_package_does_not_replace_it(file: Path) -> None:
    file = file.with_name("anthropic.py")
    file.write_text(HELLO)
    AgentFile(file, find_answer).load()
    import anthropic  # noqa: PLC0415

    assert anthropic.__file__ != str(file)


def test_a_secret_in_an_error_is_redacted(file: Path) -> None:
    file.write_text("raise ValueError('api_key=sk-abcdefghijklmnop')\n")
    with pytest.raises(FileError) as caught:
        load(file, find_answer)
    assert "sk-abcdef" not in str(caught.value)


def test_the_report_on_an_exception_contains_only_frames_of_the_user(file: Path) -> None:
    helper = file.with_name("my_helper.py")
    helper.write_text("import json\n\ndef parse(text):\n    return json.loads(text)\n")
    file.write_text("import my_helper\n\nasync def answer(turn):\n    return my_helper.parse('{')\n")
    agent = AgentFile(file, find_answer)
    agent.load()
    with pytest.raises(ValueError, match="Expecting") as caught:
        agent.current().answer(Turn(message="")).send(None)
    failure = describe(caught.value, file)
    assert (failure.file, failure.line, failure.error) == (str(helper), 4, "JSONDecodeError")
    assert [line.partition(" in ")[0] for line in failure.traceback.splitlines()] == [f"{file}:4", f"{helper}:4"]


def test_a_changed_file_replaces_the_version_before_and_one_with_an_error_does_not(file: Path) -> None:
    file.write_text(HELLO)
    agent = AgentFile(file, find_answer)
    agent.load()
    assert not agent.changed()
    file.write_text("async def answer(turn):\n    return 'Changed'\n")
    assert agent.changed()
    agent.load_again()
    assert asyncio.run(agent.current().answer(None)) == "Changed"
    file.write_text("async def answer(turn:\n")
    with pytest.raises(FileError, match="SyntaxError"):
        agent.load_again()
    assert not agent.changed()
    assert "my_agent.py:1: SyntaxError" in str(agent.error)
    assert asyncio.run(agent.current().answer(None)) == "Changed"
    file.unlink()
    assert agent.changed()
    with pytest.raises(FileError, match="cannot be read"):
        agent.load_again()
    file.write_text(HELLO)
    agent.load_again()
    assert agent.error is None
    assert asyncio.run(agent.current().answer(Turn(message="Hello"))) == "You said: Hello"


def test_a_file_that_cannot_be_loaded_at_first_answers_after_its_correction(file: Path) -> None:
    file.write_text("x = (\n")
    agent = AgentFile(file, find_answer)
    with pytest.raises(FileError):
        agent.load()
    with pytest.raises(FileError, match=r"my_agent\.py:1: SyntaxError"):
        agent.current()
    file.write_text(HELLO)
    agent.load_again()
    assert asyncio.run(agent.current().answer(Turn(message="Hello"))) == "You said: Hello"


VERSION = """
import pickle
class Berth:
    pass
held = Berth()
async def answer(turn):
    return f"{number} {{type(pickle.loads(pickle.dumps(held))) is Berth}}"
"""


def test_the_version_before_works_until_its_turns_end_and_then_leaves_nothing_behind(file: Path) -> None:
    file.write_text(VERSION.format(number=0))
    agent = AgentFile(file, find_answer)
    agent.load()
    modules = set(sys.modules)
    held = weakref.WeakSet[object]()
    for number in range(1, 51):
        before = agent.current()
        held.add(before.answer.__globals__["held"])
        broken = number % 2
        file.write_text("raise ValueError('Broken')\n" if broken else VERSION.format(number=number))
        with pytest.raises(FileError) if broken else nullcontext():
            agent.load_again()
        assert asyncio.run(before.answer(None)).split()[1] == "True"
        del before
    assert asyncio.run(agent.current().answer(None)) == "50 True"
    gc.collect()
    # The one before is kept until the next change.
    assert len(held) == 1
    assert len(set(sys.modules) - modules) <= 1
    assert len([name for name in linecache.cache if name.startswith(str(file.parent))]) == 1


def test_the_report_on_an_exception_shows_the_lines_of_the_version_that_raised_it(file: Path) -> None:
    file.write_text("async def answer(turn):\n    raise ValueError('old')\n")
    agent = AgentFile(file, find_answer)
    agent.load()
    before = agent.current()
    file.write_text("# A comment\n\n" + HELLO)
    agent.load_again()
    with pytest.raises(ValueError, match="old") as caught:
        before.answer(Turn(message="")).send(None)
    assert describe(caught.value, file).traceback == f"{file}:2 in answer: raise ValueError('old')"


def test_a_turn_has_what_the_request_contains() -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=30)
    body = {
        "prompt": "And now?",
        "messages": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": [{"type": "text", "text": "Good day"}]},
            {"role": "user", "content": "And now?"},
        ],
        "session_id": "x" * 40,
        "system": "Be brief.",
        "metadata": {"client": "c1", "conversation_id": "conv-1"},
    }
    headers = {
        "X-Request-ID": "req-1",
        "X-Portside-Deadline": deadline.isoformat().replace("+00:00", "Z"),
        "baggage": "portside.turn=t1",
        "traceparent": "00-1-2-01",
        "Authorization": "Bearer of-the-client",
    }
    turn = turns.read(orjson.dumps(body), headers, Models())
    assert turn.message == "And now?"
    assert turn.history == (Message("user", "Hello"), Message("assistant", "Good day"))
    assert turn.messages() == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Good day"},
        {"role": "user", "content": "And now?"},
    ]
    assert (turn.conversation_id, turn.client, turn.system_prompt) == ("conv-1", "c1", "Be brief.")
    assert (turn.request_id, turn.deadline) == ("req-1", deadline)
    assert 0 < turn.seconds_left <= 30
    assert dict(turn.headers) == {
        "baggage": "portside.turn=t1",
        "traceparent": "00-1-2-01",
        "X-Request-ID": "req-1",
    }


def test_a_minimal_request_is_enough() -> None:
    turn = turns.read(b'{"prompt": "Hello"}', {}, Models())
    assert (turn.message, turn.history, turn.conversation_id, turn.client) == ("Hello", (), None, None)
    assert turn.seconds_left > 60
    assert turn.request_id


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"prompt": 1}', b'{"prompt": "", "messages": [1]}', b"\xff"]
)
def test_another_body_is_refused(body: bytes) -> None:
    with pytest.raises(turns.RequestError):
        turns.read(body, {}, Models())


def test_the_system_prompt_of_the_agent_applies_to_requests_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompt").write_text("You are terse.\n")
    monkeypatch.setenv("PORTSIDE_SYSTEM_PROMPT_FILE", str(tmp_path / "prompt"))
    assert turns.read(b'{"prompt": "Hello"}', {}, Models()).system_prompt == "You are terse."


def test_the_client_of_a_turn_goes_to_the_gateway_and_attributes_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:8089")
    turn = Turn(message="Hello", headers={"baggage": "portside.turn=t1"})
    client = turn.anthropic
    assert str(client.base_url) == "http://127.0.0.1:8089"
    assert client.default_headers["baggage"] == "portside.turn=t1"
    assert client.max_retries == 0
    assert client.api_key == "portside-gateway"


def test_the_defaults_of_a_turn_are_those_of_the_settings() -> None:
    assert Settings.model_fields["default_model"].default == DEFAULT_MODEL
    assert Settings.model_fields["max_tokens"].default == DEFAULT_MAX_TOKENS


def test_the_environment_of_the_file_contains_no_secret_of_the_service(tmp_path: Path) -> None:
    given = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "AWS_ACCESS_KEY_ID": "of-the-file",
        "GOOGLE_SERVICE_ACCOUNT_KEY": "secret-10",
        "ANTHROPIC_FOUNDRY_API_KEY": "secret-11",
        "MY_TOKEN": "mine",
        "ANTHROPIC_API_KEY": "secret-1",
        "anthropic_api_key": "secret-2",
        "API_KEYS": "secret-3",
        "REDIS_URL": "redis://:secret-4@redis",
        "REDIS_PASSWORD": "secret-5",
        "SECRETS_DIR": "/secret-6",
        "ANTHROPIC_AUTH_TOKEN": "secret-7",
        "OPENAI_API_KEY": "secret-8",
        "OTEL_EXPORTER_OTLP_HEADERS": "key=secret-9",
    }
    settings = Settings(model_provider="echo", runtime_url="http://127.0.0.1:8080", gateway_port=8089)
    found = environment(given, settings, tmp_path / "prompt")
    assert "secret" not in repr(found)
    assert (found["PATH"], found["MY_TOKEN"], found["PORT"]) == ("/bin", "mine", "8080")
    assert found["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8089"
    assert found["AWS_ACCESS_KEY_ID"] == "of-the-file", "it may call other services of AWS"


def test_the_environment_of_the_file_contains_no_key_of_bedrock(tmp_path: Path) -> None:
    given = {"AWS_ACCESS_KEY_ID": "secret-1", "AWS_SECRET_ACCESS_KEY": "secret-2", "AWS_REGION": "eu-west-1"}
    settings = Settings(
        model_provider="bedrock", bedrock_region="eu-west-1", runtime_url="http://127.0.0.1:8080", gateway_port=8089
    )
    found = environment(given, settings, tmp_path / "prompt")
    assert "secret" not in repr(found)
    assert found["AWS_REGION"] == "eu-west-1"
