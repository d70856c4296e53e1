"""The generated references: current, complete, and independent of the machine on which they are made."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent_service.reference import __main__ as command
from agent_service.settings import Settings
from stand_in.agent import MakeClient, environment

DOCS = Path(__file__).parents[3] / "docs" / "reference"


def _rows(name: str) -> dict[str, list[str]]:
    """The rows of a reference's tables, by the first name in their first cell."""
    lines = [line for line in (DOCS / name).read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {row[0].split("`")[1]: row for row in cells if "`" in row[0]}


@pytest.mark.parametrize("where", [{}, {"ENVIRONMENT": "production", "XDG_STATE_HOME": "/elsewhere", "PORT": "9"}])
def test_the_references_are_current_wherever_they_are_made(where: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent_service.reference", "--check"],
        env=environment(**where),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_reference_is_named_and_what_to_run_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "ROOT", tmp_path)
    assert CliRunner().invoke(command.main).exit_code == 0
    assert CliRunner().invoke(command.main, ["--check"]).exit_code == 0
    stale = tmp_path / "docs" / "reference" / "settings.md"
    stale.write_text(stale.read_text(encoding="utf-8") + "By hand.\n", encoding="utf-8")
    checked = CliRunner().invoke(command.main, ["--check"])
    assert checked.exit_code == 1
    assert checked.stdout == "Stale: docs/reference/settings.md\n"
    assert "make generate" in checked.stderr
    assert stale.read_text(encoding="utf-8").endswith("By hand.\n")


def test_every_setting_is_told_with_its_value_default_and_meaning() -> None:
    rows = _rows("settings.md")
    assert set(rows) == {name.upper() for name in Settings.model_fields}
    assert [name for name, row in rows.items() if len(row[3]) < len("Port on it.")] == []
    assert rows["API_PORT"][:3] == ["`API_PORT` or `PORT`", "integer, 0 to 65,535", "`8000`"]
    assert rows["MODEL_PROVIDER"][1:3] == ["one of `anthropic`, `echo`", "`anthropic`"]
    assert rows["REQUEST_TIMEOUT_SECONDS"][1:3] == ["number, above 0, up to 3,600", "`60`"]
    assert rows["CHAT_PAGE"][1:3] == ["`true` or `false`", ""]
    assert rows["STATE_DIR"][2] == "`~/.local/state/portside`"
    secrets = {name for name, row in rows.items() if row[1] == "secret"}
    assert {"ANTHROPIC_API_KEY", "API_KEYS", "REDIS_URL", "REDIS_PASSWORD"} <= secrets


async def test_every_metric_that_is_scraped_is_told(make_client: MakeClient) -> None:
    client = await make_client()
    await client.post("/chat", json={"message": "Hello"})
    scraped = re.findall(r"^# TYPE (agent_\w+) (\w+)$", (await client.get("/metrics")).text, re.MULTILINE)
    rows = _rows("metrics.md")
    assert {name for name, _ in scraped} == set(rows)
    for name, kind in scraped:
        # The text format has no type `info`.
        assert rows[name][1] == ("info" if name.endswith("_info") else kind)
        assert rows[name][3], name
    assert rows["agent_http_requests_total"][2] == "`method`, `route`, `status`"


async def test_every_endpoint_is_told(make_client: MakeClient) -> None:
    client = await make_client()
    endpoints = (await client.get("/")).json()["endpoints"]
    page = (DOCS / "endpoints.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## ([A-Z]+ /.*)$", page, re.MULTILINE)
    assert headings == endpoints
    anchors = {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in re.findall(r"#+ (.*)", page)}
    assert set(re.findall(r"\(#([^)]*)\)", page)) <= anchors
