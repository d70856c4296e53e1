"""`agent-service ask`: one question to a running agent."""

from pathlib import Path

from support.agent import StartService, run_agent_service
from testbed.ports import free_port

CLIENT_KEY = "a-client-key-of-the-tests"


def test_it_prints_the_answer_and_nothing_else(start_service: StartService, tmp_path: Path) -> None:
    service = start_service(MODEL_PROVIDER="echo")
    result = run_agent_service("ask", "Hello", "--url", service.url, folder=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "You said: Hello\n", "")


def test_an_answer_cannot_control_the_terminal(start_service: StartService, tmp_path: Path) -> None:
    service = start_service(MODEL_PROVIDER="echo")
    hostile = "\x1b]0;owned\x07 \x9b2J \u202eexe\u2066\r\ttab\nline"
    result = run_agent_service("ask", hostile, "--url", service.url, folder=tmp_path)
    assert result.stdout == "You said: \\u001b]0;owned\\u0007 \\u009b2J \\u202eexe\\u2066\\u000d\ttab\nline\n"


def test_it_sends_the_first_client_key_of_the_secrets_folder(start_service: StartService, tmp_path: Path) -> None:
    service = start_service(MODEL_PROVIDER="echo", API_KEYS=CLIENT_KEY)
    (tmp_path / "API_KEYS").write_text(f"{CLIENT_KEY}\nanother-key-of-the-tests\n")
    result = run_agent_service("ask", "Hello", "--url", service.url, folder=tmp_path, SECRETS_DIR=str(tmp_path))
    assert result.stdout == "You said: Hello\n"


def test_a_refusal_is_a_one_line_error_with_the_agents_message(start_service: StartService, tmp_path: Path) -> None:
    service = start_service(MODEL_PROVIDER="echo", API_KEYS=CLIENT_KEY)
    result = run_agent_service(
        "ask", "Hello", "--url", service.url, folder=tmp_path, API_KEYS="a-key-that-is-not-known"
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert "answered 401" in result.stderr
    assert "a-key-that-is-not-known" not in result.stderr


def test_an_unreachable_agent_is_a_one_line_error(tmp_path: Path) -> None:
    nowhere = f"http://localhost:{free_port()}"
    result = run_agent_service("ask", "Hello", "--url", nowhere, "--connect-timeout", "0", folder=tmp_path)
    assert result.returncode == 1
    assert "did not answer" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_invalid_address_is_a_one_line_error(tmp_path: Path) -> None:
    result = run_agent_service("ask", "Hello", "--url", "nowhere", folder=tmp_path)
    assert result.returncode == 1
    assert "is not a valid address" in result.stderr
    assert len(result.stderr.splitlines()) == 1
