"""TOOLS_FILE: its form, its faults, its changes while the agent runs, and an agent without it."""

import subprocess
import sys
from pathlib import Path

import pytest

from agent_service.config.loading import SettingsError, load
from support.agent import StartService
from support.eventually import eventually
from support.mcp_servers import StartServer
from support.toolbox import entry, running_tools, text, write

OWN = ("add", "fail", "grow", "headers", "picture", "shrink", "slow", "text", "total", "who")


def faults(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the faults with which the service refuses to start with this definition."""
    file = folder / "tools.yaml"
    file.write_text(text, encoding="utf-8")
    monkeypatch.setenv("TOOLS_FILE", str(file))
    with pytest.raises(SettingsError) as caught:
        load(model_provider="echo")
    return caught.value.faults


@pytest.mark.parametrize(
    ("definition", "fault"),
    [
        ("tools: [", "TOOLS_FILE: is neither YAML nor JSON (line 1)"),
        ("- {name: Web, builtin: web_search}", "TOOLS_FILE: tools[0] (Web): name: string should match pattern"),
        ("- {name: web, builtin: web_browse}", "TOOLS_FILE: tools[0] (web): builtin: input should be 'web_search'"),
        ("- {name: web, builtin: web_search, allow: [a]}", "TOOLS_FILE: tools[0] (web): allow does not apply to"),
        ("- {name: a}", "TOOLS_FILE: tools[0] (a): must have exactly one of mcp, builtin and code"),
        ("- {name: a, mcp: {}}", "TOOLS_FILE: tools[0] (a): mcp: must have exactly one of url and sidecar"),
        ("- {name: a, mcp: {url: ftp://a}}", "TOOLS_FILE: tools[0] (a): mcp.url: must be an address"),
        ("- {name: a, mcp: {url: 'http://u:p@a'}}", "TOOLS_FILE: tools[0] (a): mcp.url: must not contain a user name"),
        ("- {name: a, mcp: {serverRef: {}}}", "TOOLS_FILE: tools[0] (a): mcp: serverRef is resolved by the operator"),
        ("- {name: a, code: {}, approves: [b]}", "TOOLS_FILE: tools[0] (a): approves: is unknown; remove it"),
        ("- {name: a, code: {}, timeoutSeconds: 0}", "TOOLS_FILE: tools[0] (a): timeoutSeconds: input should be"),
        ("- {name: a, code: {}}\n- {name: a, code: {}}", "TOOLS_FILE: two entries have the name a; rename one of them"),
        (
            "- {name: a, mcp: {url: 'http://a', headersFrom: [{name: Host, secretKeyRef: {name: s, key: k}}]}}",
            "TOOLS_FILE: tools[0] (a): mcp.headersFrom[0].name: is a header that the client",
        ),
        (
            "- {name: a, mcp: {url: 'http://a', headersFrom: [{name: X, secretKeyRef: {name: s, key: ..}}]}}",
            "TOOLS_FILE: tools[0] (a): mcp.headersFrom[0].secretKeyRef.key: is not the name of a key",
        ),
    ],
)
def test_a_faulty_definition_is_refused_with_its_entry_and_field(
    definition: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [line[: len(fault)] for line in faults(definition, tmp_path, monkeypatch)] == [fault]


def test_a_missing_definition_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLS_FILE", str(tmp_path / "missing"))
    with pytest.raises(SettingsError, match="TOOLS_FILE: cannot be read: No such file"):
        load(model_provider="echo")


async def test_tools_follow_changes_of_the_definition(start_mcp: StartServer, tmp_path: Path) -> None:
    first, second = start_mcp(label="first"), start_mcp(label="second")
    kept = entry(first, "one", allow=["add"])
    async with running_tools(tmp_path, kept, entry(first, "two", allow=["who"])) as tools:
        await tools.until("add", "who")
        tools.define(kept, entry(second, "two", allow=["who"]), {"name": "web", "builtin": "web_fetch"})
        await tools.until("add", "who")

        async def answers_second() -> bool:
            return text(await tools.call("who")) == "second"

        while not await answers_second():
            pass
        assert [tool["name"] for tool in tools.box.server_tools] == ["web_fetch"]
        tools.define(kept)
        await tools.until("add")
        assert tools.metric("agent_tool_server_up", server="two") is None


async def test_a_faulty_change_of_the_definition_leaves_the_tools_as_they_are(
    start_mcp: StartServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_tools(tmp_path, entry(start_mcp(), allow=["add"])) as tools:
        await tools.until("add")
        tools.define({"name": "small"})
        await tools.until("add")

        assert text(await tools.call("add", a=1, b=2)) == "3"
    assert "tools[0] (small): must have exactly one of" in capsys.readouterr().out


def test_the_service_starts_while_a_server_is_away_and_reports_it(
    start_service: StartService, start_mcp: StartServer, tmp_path: Path
) -> None:
    server = start_mcp()
    server.kill()
    file = tmp_path / "tools.json"
    write(file, [entry(server)])
    service = start_service(MODEL_PROVIDER="echo", TOOLS_FILE=str(file), awaits="")

    def up() -> str:
        lines = service.get("/metrics").text.splitlines()
        return next((line for line in lines if line.startswith('agent_tool_server_up{server="small"}')), "")

    eventually(lambda: up().endswith(" 0.0"), "the server is reported as down")
    server.start()
    eventually(lambda: up().endswith(" 1.0"), "the server is reported as up")


def test_an_agent_without_tools_does_not_import_the_sdk_of_mcp() -> None:
    program = (
        "import sys; from agent_service.app import create_app; from agent_service.config.loading import load; "
        "create_app(load(model_provider='echo', redis_url='redis://127.0.0.1:1')); "
        "sys.exit(any(name.partition('.')[0] in ('mcp', 'mcp_types', 'jsonschema') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
