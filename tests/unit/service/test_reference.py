"""The generated references: complete, and checked by their own command."""

from pathlib import Path

from click.testing import CliRunner

from agent_service.config.providers import SECRET_NAMES
from agent_service.config.settings import Settings
from codegen.__main__ import main
from support.docs.tables import rows as rows_of


def test_a_stale_reference_is_reported_with_the_command_to_run(tmp_path: Path) -> None:
    service = ["service", "--root", str(tmp_path)]
    assert CliRunner().invoke(main, service).exit_code == 0
    assert CliRunner().invoke(main, [*service, "--check"]).exit_code == 0
    stale = tmp_path / "docs" / "reference" / "settings.md"
    stale.write_text(stale.read_text(encoding="utf-8") + "By hand.\n", encoding="utf-8")
    checked = CliRunner().invoke(main, [*service, "--check"])
    assert checked.exit_code == 1
    assert checked.stdout == "Stale: docs/reference/settings.md\n"
    assert "make generate" in checked.stderr
    assert stale.read_text(encoding="utf-8").endswith("By hand.\n")


def test_every_setting_is_listed_with_its_value_default_and_meaning() -> None:
    rows = rows_of("settings.md")
    assert set(rows) == {name.upper() for name in Settings.model_fields}
    assert [name for name, row in rows.items() if len(row[3]) < len("Port on it.")] == []
    assert rows["API_PORT"][:3] == ["`API_PORT` or `PORT`", "integer, 0 to 65,535", "`8000`"]
    assert rows["MODEL_PROVIDER"][1:3] == ["one of `anthropic`, `bedrock`, `vertex`, `foundry`, `echo`", "`anthropic`"]
    assert rows["REQUEST_TIMEOUT_SECONDS"][1:3] == ["number, above 0, up to 3,600", "`60`"]
    assert rows["CHAT_PAGE"][1:3] == ["`true` or `false`", ""]
    assert rows["STATE_DIR"][2] == "`~/.local/state/portside`"
    secrets = {name for name, row in rows.items() if row[1] == "secret"}
    assert {"ANTHROPIC_API_KEY", "API_KEYS", "REDIS_URL", "REDIS_PASSWORD"} <= secrets
    assert secrets >= SECRET_NAMES
    assert rows["MODEL_IDS"][1:3] == ["JSON object", ""]
