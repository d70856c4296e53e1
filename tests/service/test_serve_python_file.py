"""`agent-service serve --runtime FILE`: the API in front of a Python file, with the gateway between file and model."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest

from stand_in import StandIn, asking
from support.agent import KEY, Service, StartService
from support.eventually import eventually
from testbed.paths import REPOSITORY

pytestmark = pytest.mark.timing

SAMPLES = REPOSITORY / "manifests" / "samples"
FILE_PROCESS = "agent_service.python_file"
TURNS = 100


class Serve(Protocol):
    """Writes a file, and starts a service in front of it."""

    def __call__(self, source: str, **settings: str) -> Service: ...


@pytest.fixture
def serve(start_service: StartService, tmp_path: Path) -> Serve:
    def start(source: str, **settings: str) -> Service:
        file = tmp_path / "my_agent.py"
        file.write_text(source, encoding="utf-8")
        return start_service(options=["--runtime", str(file)], **{"MODEL_PROVIDER": "echo", **settings})

    return start


def sample(name: str) -> str:
    return (SAMPLES / name).read_text(encoding="utf-8")


def test_the_shortest_file_answers_chats_and_streams(serve: Serve) -> None:
    service = serve(sample("hello_agent.py"))
    assert service.post("/chat", message="Hello").json()["response"] == "You said: Hello"
    streamed = service.post("/chat/stream", message="Hello").text
    assert '"content":"You said: Hello"' in streamed
    assert '"type":"done"' in streamed


@pytest.mark.parametrize("provider", ["echo", "anthropic"])
def test_a_file_reaches_the_model_through_the_gateway(serve: Serve, stand_in: StandIn, provider: str) -> None:
    settings = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url, "MODEL_PROVIDER": provider}
    service = serve(sample("model_agent.py"), SYSTEM_PROMPT="You are terse.", **settings)
    answered = service.post("/chat", message=asking("Hello")).json()
    assert answered["response"]
    assert answered["tokens_used"] > 0
    assert service.metric('agent_runtime_requests_total{outcome="ok",protocol="invocations"}') == 1
    again = service.post("/chat/stream", message="And now?", conversation_id=answered["conversation_id"])
    assert '"type":"done"' in again.text
    if provider == "anthropic":
        request = stand_in.last()
        assert (request["system"], request["message"], len(request["history"])) == ("You are terse.", "And now?", 2)
        assert request["key"] == KEY[-4:]


def test_no_secret_of_the_service_is_in_the_environment_of_the_file(serve: Serve) -> None:
    secrets = {"ANTHROPIC_API_KEY": KEY, "API_KEYS": "", "OPENAI_API_KEY": "sk-of-the-user-1"}
    service = serve("import json, os\nasync def answer(turn):\n    return json.dumps(dict(os.environ))\n", **secrets)
    found = json.loads(service.post("/chat", message="Hello").json()["response"])
    assert found["ANTHROPIC_API_KEY"] == found["OPENAI_API_KEY"] == "portside-gateway"
    assert KEY not in str(found)
    assert not {name for name in found if "REDIS" in name or name in {"API_KEYS", "SECRETS_DIR"}}


def test_an_exception_is_in_the_log_with_its_line_and_not_in_the_answer(serve: Serve) -> None:
    service = serve("async def answer(turn):\n    raise ValueError('private detail')\n")
    failed = service.post("/chat", message="Hello")
    assert failed.status_code >= 500
    assert "private" not in failed.text
    (line,) = [json.loads(each) for each in service.log().splitlines() if "raised an exception" in each]
    assert (Path(line["file"]).name, line["line"], line["message"]) == ("my_agent.py", 2, "private detail")
    assert line["request_id"] == failed.headers["x-request-id"]


def test_a_file_that_crashes_is_restarted(serve: Serve) -> None:
    service = serve(
        "import os\nasync def answer(turn):\n    if turn.message == 'crash': os._exit(3)\n    return 'up'\n"
    )
    assert service.post("/chat", message="crash").status_code >= 500
    assert service.post("/chat", message="Hello").json()["response"] == "up"
    assert '"code":3' in next(line for line in service.log().splitlines() if "Runtime exited" in line)


def test_a_changed_file_answers_the_next_message(serve: Serve, tmp_path: Path) -> None:
    service = serve("async def answer(turn:\n")
    failed = service.post("/chat", message="Hello")
    assert failed.status_code >= 500
    assert "SyntaxError" not in failed.text
    assert "my_agent.py:1: SyntaxError" in service.log()
    (tmp_path / "my_agent.py").write_text("async def answer(turn):\n    return 'mended'\n")
    eventually(lambda: service.post("/chat", message="Hello").json().get("response") == "mended", "it answers")
    assert "Loaded my_agent.py again" in service.log()


def test_a_file_that_cannot_be_loaded_again_is_reported_by_the_health_of_the_service(
    serve: Serve, tmp_path: Path
) -> None:
    service = serve("async def answer(turn):\n    return 'first'\n")
    (tmp_path / "my_agent.py").write_text("async def answer(turn:\n")

    def runtime() -> dict[str, object]:
        found: dict[str, object] = service.get("/health").json()["components"]["runtime"]
        return found

    eventually(lambda: "outdated" in str(runtime()["detail"]), "the health names it")
    assert runtime()["status"] == "up"
    assert service.post("/chat", message="Hello").json()["response"] == "first"


def test_the_file_ends_after_the_turns_in_progress(serve: Serve) -> None:
    service = serve("async def answer(turn):\n    return 'up'\n")
    assert service.post("/chat", message="Hello").status_code == 200
    (child,) = service.children(FILE_PROCESS)
    service.terminate()
    assert service.wait() == 0
    assert not Path(f"/proc/{child}").exists()
    assert "Traceback" not in service.log()


def test_the_file_does_not_survive_a_service_that_is_killed(serve: Serve) -> None:
    service = serve("async def answer(turn):\n    return 'up'\n")
    assert service.post("/chat", message="Hello").status_code == 200
    (child,) = service.children(FILE_PROCESS)
    service.process.send_signal(signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{child}/fd").exists() or not _runs(child), "the file's process is gone")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


LOOP = """
async def answer(turn):
    for step in range(3):
        await turn.anthropic.messages.create(model=turn.model, max_tokens=100, messages=turn.messages())
        yield f"step {step} "
"""


def test_a_hundred_turns_that_still_call_the_model_are_completed_after_sigterm(serve: Serve, stand_in: StandIn) -> None:
    service = serve(
        LOOP,
        MODEL_PROVIDER="anthropic",
        ANTHROPIC_API_KEY=KEY,
        ANTHROPIC_BASE_URL=stand_in.url,
        RATE_LIMIT_REQUESTS="0",
    )
    with ThreadPoolExecutor(TURNS) as pool:
        turns = [pool.submit(service.post, "/chat/stream", message=asking("Hello", hold="tide")) for _ in range(TURNS)]
        eventually(lambda: len(stand_in.requests()) == TURNS, "every turn has called the model")
        service.terminate()
        eventually(lambda: service.get("/health/ready").status_code == 503, "the service drains")
        stand_in.release("tide")
        answers = [each.result().text for each in turns]

    assert [each for each in answers if "step 2" not in each or '"type":"done"' not in each] == []
    assert len(stand_in.requests()) == 3 * TURNS
    assert service.wait() == 0
