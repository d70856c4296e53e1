"""`agent-service serve --runtime FILE` with tools and no `answer`: the built-in agent answers, and calls the tools."""

import json
from pathlib import Path
from typing import Any, Protocol

import pytest

from stand_in import StandIn, asking
from support.agent import KEY, Service, StartService, run_agent_service
from support.eventually import eventually

pytestmark = pytest.mark.timing

FILE_PROCESS = "agent_service.python_file"
ADD = (
    'from portside import tool\n@tool\ndef add(a: int, b: int) -> int:\n    """Add two numbers."""\n    return a + b\n'
)


class Serve(Protocol):
    """Writes a file, and starts a service with it."""

    def __call__(self, source: str, **settings: str) -> Service: ...


@pytest.fixture
def serve(start_service: StartService, stand_in: StandIn, tmp_path: Path) -> Serve:
    def start(source: str, **settings: str) -> Service:
        file = tmp_path / "my_tools.py"
        file.write_text(source, encoding="utf-8")
        given = {"ANTHROPIC_API_KEY": KEY, "RATE_LIMIT_REQUESTS": "0", "ANTHROPIC_BASE_URL": stand_in.url, **settings}
        return start_service(options=["--runtime", str(file)], **given)

    return start


def calling(tool: str, **arguments: Any) -> str:
    return asking("please", calls=[[{"name": tool, "input": arguments}]])


def offered(stand_in: StandIn) -> list[dict[str, Any]]:
    """Return the tools of the last request to the model."""
    found: list[dict[str, Any]] = json.loads(stand_in.requests()[-1]["body"]).get("tools", [])
    return found


def has_tools(service: Service, stand_in: StandIn, *names: str) -> bool:
    """Return whether a new turn offers these tools."""
    asked = service.post("/chat", message="Hello")
    assert asked.status_code == 200, asked.text
    return [tool["name"] for tool in offered(stand_in)] == list(names)


def test_the_built_in_agent_calls_the_tools_of_the_file(serve: Serve, stand_in: StandIn) -> None:
    service = serve(ADD)
    eventually(lambda: has_tools(service, stand_in, "add"), "the tools are offered")
    (tool,) = offered(stand_in)
    assert tool["description"] == "Add two numbers."
    assert tool["input_schema"]["required"] == ["a", "b"]
    answered = service.post("/chat", message=calling("add", a=20, b=22)).json()
    assert "42" in answered["response"]
    assert service.metric('agent_tool_calls_total{outcome="ok",server="my-tools",tool="add"}') == 1


def test_errors_of_the_tool_reach_the_model_and_the_log(serve: Serve, stand_in: StandIn) -> None:
    service = serve("from portside import tool\n@tool\ndef find(city: str):\n    raise LookupError('No such city')\n")
    eventually(lambda: has_tools(service, stand_in, "find"), "the tools are offered")
    answered = service.post("/chat", message=calling("find", city="X")).json()
    assert "The tool find failed: LookupError: No such city" in answered["response"]
    invalid = service.post("/chat", message=calling("find", town="X")).json()
    assert "city" in invalid["response"]
    (line,) = [json.loads(each) for each in service.log().splitlines() if "Tool raised an exception" in each]
    assert (Path(line["file"]).name, line["line"]) == ("my_tools.py", 4)


def test_a_change_of_the_file_changes_the_tools(serve: Serve, stand_in: StandIn, tmp_path: Path) -> None:
    service = serve(ADD)
    eventually(lambda: has_tools(service, stand_in, "add"), "the tools are offered")
    (tmp_path / "my_tools.py").write_text(ADD.replace("add", "plus"))
    eventually(lambda: has_tools(service, stand_in, "plus"), "the new tools are offered")


def test_a_tool_that_ends_the_process_is_an_error_and_the_process_is_restarted(serve: Serve, stand_in: StandIn) -> None:
    service = serve(f"import os\n{ADD}@tool\ndef crash():\n    os._exit(3)\n")
    eventually(lambda: has_tools(service, stand_in, "add", "crash"), "the tools are offered")
    assert service.post("/chat", message=calling("crash")).status_code == 200
    eventually(
        lambda: "42" in service.post("/chat", message=calling("add", a=20, b=22)).json()["response"],
        "the tools answer again",
    )
    assert '"code":3' in next(line for line in service.log().splitlines() if "Tools exited" in line)


def test_no_secret_of_the_service_is_in_the_environment_of_the_tools(serve: Serve, stand_in: StandIn) -> None:
    service = serve("import os\nfrom portside import tool\n@tool\ndef env():\n    return dict(os.environ)\n")
    eventually(lambda: has_tools(service, stand_in, "env"), "the tools are offered")
    answered = service.post("/chat", message=calling("env")).json()["response"]
    assert "PATH" in answered
    assert KEY not in answered
    assert "ANTHROPIC" not in answered
    assert "REDIS" not in answered


def test_configured_tools_are_kept(serve: Serve, stand_in: StandIn, tmp_path: Path) -> None:
    configured = tmp_path / "tools.yaml"
    configured.write_text("tools:\n- {name: my-tools, builtin: web_search}\n", encoding="utf-8")
    service = serve(ADD, TOOLS_FILE=str(configured))
    eventually(
        lambda: (
            service.post("/chat", message="Hello") and {"add", "web_search"} == {t["name"] for t in offered(stand_in)}
        ),
        "both are offered",
    )


def test_an_invalid_file_of_configured_tools_is_an_error_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "my_tools.py").write_text(ADD)
    (tmp_path / "tools.yaml").write_text("tools:\n- {name: a, builtin: no}\n")
    ended = run_agent_service(
        "serve", "--runtime", "my_tools.py", folder=tmp_path, MODEL_PROVIDER="echo", TOOLS_FILE="tools.yaml"
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("TOOLS_FILE: tools[0] (a): builtin: ")


@pytest.mark.parametrize(
    "head", ["from portside import tool as t\n@t\n", "import portside\nif True:\n    @portside.tool(timeout=3)\n    "]
)
def test_other_ways_to_write_the_decorator_are_found(serve: Serve, stand_in: StandIn, head: str) -> None:
    indent = "    " if head.endswith(" ") else ""
    service = serve(f"{head}def one() -> int:\n{indent}    return 1\n")
    eventually(lambda: has_tools(service, stand_in, "one"), "the tools are offered")


def test_with_both_the_function_answers(serve: Serve) -> None:
    service = serve(f"{ADD}async def answer(turn):\n    return str(add(1, 2))\n")
    assert service.post("/chat", message="Hello").json()["response"] == "3"


def test_with_neither_the_log_says_what_to_define(serve: Serve) -> None:
    service = serve("x = 1\n")
    assert service.post("/chat", message="Hello").status_code >= 500
    assert "defines no `answer`; add `async def answer(turn)`" in service.log()
    assert "or functions with `@tool`" in service.log()


def test_the_tools_end_with_the_service(serve: Serve, stand_in: StandIn) -> None:
    service = serve(ADD)
    eventually(lambda: has_tools(service, stand_in, "add"), "the tools are offered")
    (child,) = service.children(FILE_PROCESS)
    service.terminate()
    assert service.wait() == 0
    assert not Path(f"/proc/{child}").exists()
    assert "Traceback" not in service.log()
    assert "did not exit" not in service.log()
