"""Several API processes on one port behave as one service."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from stand_in import StandIn, asking
from support.agent import API_PROCESS, COMMAND, KEY, Service, StartService, command_line, environment, running_service
from support.eventually import eventually
from support.redis_server import RedisServer
from testbed.ports import free_port

pytestmark = pytest.mark.timing

PROCESSES = 3


@pytest.fixture
def start(start_service: StartService, stand_in: StandIn) -> StartService:
    """Return a function that starts a service of several processes, and waits until all of them answer."""
    common = {
        "API_WORKERS": str(PROCESSES),
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": stand_in.url,
        "RATE_LIMIT_REQUESTS": "0",
        "REQUEST_TIMEOUT_SECONDS": "30",
    }

    def started(**settings: str) -> Service:
        service = start_service(**{**common, **settings})
        eventually(lambda: "Agent API started" in service.log(), "all processes answer", 60)
        return service

    return started


def test_a_stopped_service_leaves_no_process_that_could_disturb_the_next_test(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    with running_service(tmp_path, REDIS_URL=redis_server.url, MODEL_PROVIDER="echo", API_WORKERS="3") as service:
        processes = service.children(API_PROCESS)
        assert len(processes) == PROCESSES
    assert [pid for pid in processes if command_line(pid)] == []


@contextmanager
def streams(service: Service, count: int, message: str) -> Iterator[list[str]]:
    """Open streams, yield the text received by each so far, and wait until they end."""
    received = ["" for _ in range(count)]

    def read(index: int) -> None:
        body = {"message": message}
        try:
            with httpx.stream("POST", f"{service.url}/chat/stream", json=body, timeout=60) as answer:
                for part in answer.iter_text():
                    received[index] += part
        except httpx.TransportError as error:
            received[index] += f"[{type(error).__name__}]"

    threads = [threading.Thread(target=read, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    yield received
    for thread in threads:
        thread.join(60)


# The stand-in sends the first word at once, and the rest when the test releases it.
HELD = asking("hello", hold="streams", after=1)


def flowing(received: list[str]) -> bool:
    return all('"text"' in text for text in received)


def scraped(service: Service) -> dict[str, float]:
    """Return the sum of each sample over all labels, from a strictly parsed exposition."""
    text = service.get("/metrics").text
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families), "a family occurs twice"
    found: dict[str, float] = {}
    seen = set()
    for family in families:
        assert family.documentation
        for sample in family.samples:
            assert (sample.name, tuple(sorted(sample.labels.items()))) not in seen
            seen.add((sample.name, tuple(sorted(sample.labels.items()))))
            assert "pid" not in sample.labels
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


@contextmanager
def by_hand(folder: Path, command: list[str], **settings: str) -> Iterator[Service]:
    """Start a service in its own process group, without waiting until it is ready."""
    port = free_port()
    log_file = folder / f"by-hand-{port}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [*command, "serve", "--host", "127.0.0.1", "--port", str(port)],
            env=environment(**settings),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Service(process, f"http://127.0.0.1:{port}", log_file)
    finally:
        process.kill()
        process.wait()


def metrics_folder(service: Service) -> Path:
    [pid, *_] = service.children(API_PROCESS)
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    [folder] = [value for value in variables if value.startswith(b"PROMETHEUS_MULTIPROC_DIR=")]
    return Path(folder.decode().partition("=")[2])


def gone(pid: int) -> bool:
    return command_line(pid) == ""


def test_every_process_exposes_the_metrics_of_all_processes(start: StartService) -> None:
    service = start()
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda number: service.post("/chat", message=f"hello {number}"), range(300)))
    assert {answer.status_code for answer in answers} == {200}
    # A process counts an answer when it has sent it.
    eventually(lambda: scraped(service)["agent_requests_in_flight"] == 0, "all processes have counted their answers")
    scrapes = [scraped(service) for _ in range(10)]
    for sums in scrapes:
        assert sums["agent_model_requests_total"] == 300
        assert sums["agent_model_request_duration_seconds_count"] == 300
        assert sums["agent_requests_in_flight"] == 0
        assert sums["agent_build_info"] == 1

    def logged() -> list[str]:
        return [line for line in service.log().splitlines() if '"/chat"' in line]

    # A line follows the end of its answer.
    eventually(lambda: len(logged()) >= 300, "all requests are logged")
    lines = [json.loads(line) for line in logged()]
    assert len(lines) == 300
    assert {line["process"] for line in lines} <= set(range(PROCESSES))
    assert len({line["pid"] for line in lines}) > 1, "only one process answered"


def test_every_scrape_counts_the_requests_in_flight_of_all_processes(start: StartService, stand_in: StandIn) -> None:
    service = start()
    with streams(service, 6, HELD) as received:
        eventually(lambda: flowing(received), "all streams flow")
        assert [scraped(service)["agent_requests_in_flight"] for _ in range(6)] == [6] * 6
        stand_in.release("streams")
    eventually(lambda: scraped(service)["agent_requests_in_flight"] == 0, "none is left")


def test_the_start_is_logged_once_and_all_processes_share_conversations(start: StartService, stand_in: StandIn) -> None:
    service = start(REDIS_URL="")
    started = [json.loads(line) for line in service.log().splitlines() if "Agent API started" in line]
    assert [line["processes"] for line in started] == [PROCESSES]
    assert started[0]["url"] == service.url
    conversation_id = service.post("/chat", message="I am Ada").json()["conversation_id"]
    for _ in range(9):
        service.post("/chat", message="who am I", conversation_id=conversation_id)
        assert "user: I am Ada" in stand_in.last()["history"]


def test_twenty_streams_finish_before_the_exit_and_new_work_is_refused(start: StartService, stand_in: StandIn) -> None:
    service = start(REDIS_URL="")
    [valkey] = service.children("valkey-server")
    processes = service.children(API_PROCESS)
    assert len(processes) == PROCESSES
    with streams(service, 20, HELD) as received:
        eventually(lambda: flowing(received), "all streams flow")
        service.terminate()
        # Each process notices the shutdown by itself, and each connection may reach another process.
        refusing = [503] * 8 * PROCESSES
        eventually(
            lambda: [service.get("/health/ready").status_code for _ in refusing] == refusing, "readiness of all turns"
        )
        # A service manager sends the signal to all processes, not only to the first.
        for pid in processes:
            os.kill(pid, signal.SIGTERM)
        late = [service.post("/chat", message="late") for _ in range(6)]
        assert {answer.status_code for answer in late} == {503}
        assert {answer.headers["Retry-After"] for answer in late} == {"1"}
        assert not gone(valkey)
        assert not any('"done"' in text for text in received), "the streams were to be under way still"
        stand_in.release("streams")
    assert [text for text in received if '"done"' not in text] == []
    assert service.wait() == 0
    assert [pid for pid in (valkey, *processes) if not gone(pid)] == []
    assert '"level":"error"' not in service.log()
    assert "warning" not in "".join(received)


def test_an_interrupt_of_the_process_group_as_from_a_terminal_drains(
    start: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    settings = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url, "STATE_DIR": str(tmp_path / "group")}
    with by_hand(tmp_path, [COMMAND], API_WORKERS="2", **settings) as service:
        eventually(lambda: "Agent API started" in service.log(), "all processes answer", 60)
        with streams(service, 4, HELD) as received:
            eventually(lambda: flowing(received), "all streams flow")
            os.killpg(service.process.pid, signal.SIGINT)
            eventually(lambda: service.get("/health/ready").status_code == 503, "readiness turns")
            stand_in.release("streams")
        assert [text for text in received if '"done"' not in text or "warning" in text] == []
        assert service.wait() == 0
        assert "Traceback" not in service.log()
        assert '"level":"error"' not in service.log(), "the Valkey was to be left alone"


def test_a_second_signal_cuts_the_remaining_streams_of_all_processes(start: StartService) -> None:
    service = start(REQUEST_TIMEOUT_SECONDS="600")
    with streams(service, 6, asking("hello", slow=20)) as received:
        eventually(lambda: scraped(service)["agent_requests_in_flight"] == 6, "all streams are open")
        service.terminate()
        eventually(lambda: service.get("/health/ready").status_code == 503, "readiness turns")
        service.terminate()
        assert service.wait(30) == 0
    assert not any('"done"' in text for text in received)


def test_a_process_that_dies_is_replaced_and_the_metrics_stay_correct(start: StartService) -> None:
    service = start()
    for _ in range(30):
        assert service.post("/chat", message="hello").status_code == 200
    with streams(service, 9, HELD):
        eventually(lambda: scraped(service)["agent_requests_in_flight"] == 9, "all streams are open")
        for pid in service.children(API_PROCESS):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: service.log().count("API process ended, replaced it") == PROCESSES, "the loss is noticed")

    def well() -> bool:
        try:
            return scraped(service)["agent_requests_in_flight"] == 0
        except httpx.TransportError:
            return False

    eventually(well, "new processes answer, and what died is not in flight", 60)
    for _ in range(10):
        assert service.post("/chat", message="hello").status_code == 200
    assert scraped(service)["agent_model_requests_total"] == 40
    folder = metrics_folder(service)
    files = {path.name for path in folder.iterdir()}
    assert {int(re.sub(r"\D+", "", name)) for name in files} == set(range(PROCESSES)), "a file for each process id"
    service.terminate()
    assert service.wait() == 0
    assert not folder.exists()


def test_a_process_that_cannot_start_stops_the_service_with_a_message(tmp_path: Path) -> None:
    with by_hand(tmp_path, [COMMAND], MODEL_PROVIDER="echo", API_WORKERS="2", STATE_DIR=str(tmp_path / "s")) as service:
        eventually(lambda: len(service.children(API_PROCESS)) == 2, "they are started")
        valkey, victim = service.children("valkey-server")[0], service.children(API_PROCESS)[0]
        os.kill(victim, signal.SIGKILL)
        assert service.wait(30) == 1
        assert "could not start, gave up" in service.log()
        assert gone(valkey)


@pytest.mark.parametrize(
    ("processes", "moment"),
    [("1", "Valkey started"), ("2", "Valkey started"), ("2", '"process":'), ("2", "Application startup complete")],
)
def test_a_signal_at_any_moment_of_the_start_exits_with_code_0_and_leaves_no_process(
    tmp_path: Path, processes: str, moment: str
) -> None:
    settings = {"MODEL_PROVIDER": "echo", "API_WORKERS": processes, "STATE_DIR": str(tmp_path / "state")}
    with by_hand(tmp_path, [COMMAND], **settings) as service:
        eventually(lambda: moment in service.log(), f"{moment} is logged", 30)
        pids = service.children()
        service.terminate()
        assert service.wait() == 0, service.log()
        eventually(lambda: all(gone(pid) for pid in pids), "nothing is left", 10)
        assert "Traceback" not in service.log()
        assert '"level":"error"' not in service.log()


# Python imports sitecustomize before anything else: a signal arrives while the first event loop is created.
SIGNALLED_LOOP = """
import asyncio, os, signal
def make(loop, made=asyncio.BaseEventLoop.__init__):
    made(loop)
    try:
        os.close(os.open(os.environ["SIGNALLED"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGTERM)
asyncio.BaseEventLoop.__init__ = make
"""


def test_a_signal_while_the_event_loop_is_created_exits_with_code_0_and_no_traceback(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SIGNALLED_LOOP)
    signalled = {"PYTHONPATH": str(tmp_path), "SIGNALLED": str(tmp_path / "signalled")}
    settings = {"MODEL_PROVIDER": "echo", "API_WORKERS": "2", "REDIS_URL": redis_server.url}
    with by_hand(tmp_path, [COMMAND], **settings, **signalled) as service:
        assert service.wait() == 0, service.log()
        assert (tmp_path / "signalled").exists()
        assert "Traceback" not in service.log()
        assert "never awaited" not in service.log()


def test_a_process_that_dies_repeatedly_stops_the_service_instead_of_a_restart_loop(start: StartService) -> None:
    service = start(API_WORKERS="2")
    first, second = service.children(API_PROCESS)
    killed = {second}
    os.kill(second, signal.SIGKILL)

    def kill_the_next() -> bool:
        if service.process.poll() is not None:
            return True
        for pid in service.children(API_PROCESS):
            if pid not in {first, *killed}:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
        return False

    eventually(kill_the_next, "it gives up", 60)
    assert service.wait() == 1
    assert 3 <= len(killed) <= 6
    assert gone(first)
    assert "ended repeatedly, gave up" in service.log()


def test_a_killed_main_process_leaves_no_process_behind(start: StartService, stand_in: StandIn) -> None:
    service = start(REDIS_URL="")
    pids = service.children()
    assert len(pids) == 1 + PROCESSES
    with streams(service, 6, HELD) as received:
        eventually(lambda: flowing(received), "all streams flow")
        service.process.kill()
        eventually(lambda: gone(service.process.pid), "the first process is gone")
        stand_in.release("streams")
    assert [text for text in received if '"done"' not in text] == [], "what was in flight was to be finished"
    eventually(lambda: all(gone(pid) for pid in pids), "all processes end by themselves")


def test_a_process_that_hangs_is_replaced(tmp_path: Path) -> None:
    impatient = (
        "from agent_service.server.multiprocess import supervisor; supervisor._SILENT_STEPS = 2; "
        "from agent_service.cli import main; main()"
    )
    settings = {"MODEL_PROVIDER": "echo", "API_WORKERS": "2", "STATE_DIR": str(tmp_path / "state")}
    with by_hand(tmp_path, [sys.executable, "-c", impatient], **settings) as service:
        eventually(lambda: "Agent API started" in service.log(), "all processes answer", 60)
        hung, _ = service.children(API_PROCESS)
        os.kill(hung, signal.SIGSTOP)
        eventually(lambda: gone(hung), "it is ended")
        eventually(lambda: len(service.children(API_PROCESS)) == 2, "it is replaced")
        assert "API process sent no heartbeat" in service.log()
        service.terminate()
        assert service.wait() == 0
