"""`agent-service ask` retries while no connection can be made, and never repeats a question that was sent."""

import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from agent_service.client import connection
from agent_service.client.ask import AskError, ask

ANSWER = b'{"response": "Aye."}'


class _Agent(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name in http.server
        """Print nothing."""


def _pauses(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> list[float]:
    """Call `act` in place of each pause; return the list of pauses so far."""
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        act()

    monkeypatch.setattr(connection, "sleep", pause)
    return pauses


def _ask(port: int, connect_seconds: float = 60) -> str:
    url = f"http://127.0.0.1:{port}"
    return "".join(ask(url, "Hello", key=None, seconds=10, connect_seconds=connect_seconds))


def test_an_agent_that_refuses_connections_at_first_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Agent, bind_and_activate=False)
    server.server_bind()  # bound and not listening: connections are refused
    serving = Thread(target=server.serve_forever)

    def listen() -> None:
        server.server_activate()
        serving.start()

    pauses = _pauses(monkeypatch, listen)
    with server:
        assert _ask(server.server_port) == "Aye."
        server.shutdown()
        serving.join()
    assert len(pauses) == 1


def test_an_attempt_that_times_out_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[float] = []

    def create_connection(address: tuple[str, int], timeout: float) -> socket.socket:
        attempts.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", create_connection)
    pauses = _pauses(monkeypatch, lambda: None)
    now = iter(range(100))
    monkeypatch.setattr(connection, "monotonic", lambda: float(next(now)))
    with pytest.raises(AskError, match="did not answer: timed out"):
        _ask(1, connect_seconds=5)
    assert len(attempts) == len(pauses) + 1 > 3
    assert max(attempts) < 10, "no attempt takes as long as an answer may"


def test_when_retries_run_out_the_error_names_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = _pauses(monkeypatch, lambda: None)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(AskError, match="Connection refused"):
            _ask(unused.getsockname()[1], connect_seconds=0)
    assert pauses == []


def test_a_question_whose_connection_breaks_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = _pauses(monkeypatch, lambda: None)
    questions: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def break_off() -> None:
            listener.accept()[0].close()  # the connection attempt
            connection, _ = listener.accept()
            questions.append(connection.recv(65536))
            connection.close()

        serving = Thread(target=break_off)
        serving.start()
        with pytest.raises(AskError, match="did not answer"):
            _ask(listener.getsockname()[1])
        serving.join()
    assert len(questions) == 1
    assert pauses == []


def test_an_option_of_the_command_sets_how_long_it_retries() -> None:
    from agent_service.cli import main  # noqa: PLC0415

    [option] = [each for each in main.commands["ask"].params if each.name == "connect_timeout"]
    assert option.default == connection.CONNECT_SECONDS
