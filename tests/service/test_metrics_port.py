"""Metrics on their own port (METRICS_PORT), with one process or several."""

import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.agent import MakeClient, Service, StartService, run_agent_service, running_service
from support.eventually import eventually
from support.redis_server import RedisServer
from testbed.ports import free_port


@pytest.fixture(params=["1", "2"], ids=["one process", "two processes"])
def scraped(request: pytest.FixtureRequest, start_service: StartService) -> tuple[Service, str]:
    """Return a service and the URL of its metrics."""
    port = free_port()
    service = start_service(MODEL_PROVIDER="echo", API_WORKERS=request.param, METRICS_PORT=str(port))
    eventually(lambda: "Agent API started" in service.log(), "all processes answer", 60)
    return service, f"http://127.0.0.1:{port}/metrics"


def test_metrics_are_served_on_their_own_port_only(scraped: tuple[Service, str]) -> None:
    service, url = scraped
    for _ in range(5):
        assert service.post("/chat", message="hello").status_code == 200
    # A process counts an answer when it has sent it.
    counted = ('route="/chat",status="200"} 5.0', "\nagent_requests_in_flight 0.0\n")
    eventually(lambda: all(each in httpx.get(url).text for each in counted), "all answers have been counted")
    answer = httpx.get(url)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["agent_model_requests_total", "echo", "ok"] == 5
    assert samples["agent_http_requests_total", "/chat", "200", "POST"] == 5
    assert samples["agent_requests_in_flight",] == 0
    assert len([key for key in samples if key[0] == "agent_build_info"]) == 1
    assert service.get("/metrics").status_code == 404
    assert httpx.get(url.removesuffix("metrics")).status_code == 404
    assert httpx.get(f"{url}?name=x").status_code == 200
    assert "/metrics" not in service.get("/openapi.json").json()["paths"]
    assert url in service.log()


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({}, True),
        ({"environment": "staging"}, True),
        ({"environment": "production"}, False),
        ({"environment": "production", "metrics_port": 0}, False),
    ],
)
async def test_in_production_metrics_are_not_served_on_the_api_port(
    make_client: MakeClient, settings: dict[str, object], shown: bool
) -> None:
    client = await make_client(model_provider="echo", **settings)
    assert (await client.get("/metrics")).status_code == (200 if shown else 404)


def test_in_production_a_worker_serves_metrics_on_their_own_port_only(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    port = str(free_port())
    common = {"MODEL_PROVIDER": "echo", "ENVIRONMENT": "production", "REDIS_URL": redis_server.url}
    with running_service(tmp_path, "worker", **common, METRICS_PORT=port) as worker:
        assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 200
        assert worker.get("/metrics").status_code == 404
    with running_service(tmp_path, "worker", **common) as worker:
        assert worker.get("/metrics").status_code == 404
        assert worker.get("/health/live").status_code == 200


def test_a_silent_scraper_blocks_neither_other_scrapes_nor_the_shutdown(scraped: tuple[Service, str]) -> None:
    service, url = scraped
    port = int(url.split(":")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)) as cut:
        cut.sendall(b"GET /metrics HTT")
        assert httpx.get(url).status_code == 200
        service.terminate()
        assert service.wait() == 0
    assert "Traceback" not in service.log()


def test_idle_scraper_connections_do_not_block_other_scrapers(scraped: tuple[Service, str]) -> None:
    service, url = scraped
    port = int(url.split(":")[2].partition("/")[0])
    with ExitStack() as stack:
        for number in range(300):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            if number % 2:
                # The server may already have closed it, which is the behaviour under test.
                with suppress(OSError):
                    sock.sendall(b"GET /metrics HTT")
            if number % 100 == 99:
                assert httpx.get(url).status_code == 200
        threads = len(list(Path(f"/proc/{service.process.pid}/task").iterdir()))
        assert threads < 100
    assert "Traceback" not in service.log()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_port_in_use_is_reported_in_one_line(tmp_path: Path, processes: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        settings = {"MODEL_PROVIDER": "echo", "METRICS_PORT": port, "API_WORKERS": processes}
        result = run_agent_service(
            "serve",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            folder=tmp_path,
            STATE_DIR=str(tmp_path / "state"),
            **settings,
        )
    assert (result.returncode, result.stdout) == (1, "")
    assert (
        result.stderr
        == f"Port {port} is in use; stop the process that uses it, or choose another port with METRICS_PORT.\n"
    )


def test_the_api_and_the_metrics_cannot_share_a_port(tmp_path: Path) -> None:
    port = str(free_port())
    result = run_agent_service(
        "serve", "--host", "127.0.0.1", "--port", port, folder=tmp_path, MODEL_PROVIDER="echo", METRICS_PORT=port
    )
    assert result.returncode == 1
    assert "METRICS_PORT" in result.stderr
    assert len(result.stderr.splitlines()) == 1
