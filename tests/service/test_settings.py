"""A start with invalid settings: one line for each, and exit code 2."""

from pathlib import Path

from support.agent import run_agent_service


def test_invalid_settings_stop_the_start_with_exit_code_2_and_one_line_each(tmp_path: Path) -> None:
    wrong = {"MAX_TOKENS": "many", "API_PORT": "high", "ANTHROPIC_API_KEY": "sk secret"}
    done = run_agent_service("serve", folder=tmp_path, **wrong)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 3
    assert "Traceback" not in done.stderr
    assert "sk secret" not in done.stderr


def test_an_unreadable_env_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"SYSTEM_PROMPT=\xff\xfe")
    done = run_agent_service("serve", folder=tmp_path, MODEL_PROVIDER="echo")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert ".env" in done.stderr
