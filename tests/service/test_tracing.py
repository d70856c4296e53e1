"""OpenTelemetry traces, as a collector receives them (OTLP over HTTP)."""

import json
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client.openmetrics import parser as openmetrics

from stand_in import StandIn, asking
from support.agent import KEY, Service, StartService, environment, running_service
from support.collector import Collector, attributes
from support.eventually import eventually
from support.redis_server import RedisServer

pytestmark = pytest.mark.timing

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


def wait_for(collector: Collector, *names: str) -> dict[str, Span]:
    """Wait until spans of these names have arrived, and return them by name."""
    eventually(lambda: {span.name for span in collector.spans()} >= set(names), f"spans {names} arrive")
    return {span.name: span for span in collector.spans()}


@pytest.fixture
def traced(start_service: StartService, stand_in: StandIn, redis_server: RedisServer, collector: Collector) -> Service:
    return start_traced(start_service, stand_in, redis_server, collector.url)


def start_traced(
    start_service: StartService, stand_in: StandIn, redis_server: RedisServer, endpoint: str, **more: str
) -> Service:
    return start_service(
        ANTHROPIC_API_KEY=KEY,
        ANTHROPIC_BASE_URL=stand_in.url,
        REDIS_URL=redis_server.url,
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_BSP_SCHEDULE_DELAY="100",
        **more,
    )


def test_a_request_and_its_turn_are_spans_in_the_callers_trace(traced: Service, collector: Collector) -> None:
    private = f"private-{uuid.uuid4()}"
    answer = httpx.post(f"{traced.url}/chat?{private}", json={"message": private}, headers=TRACEPARENT)
    assert answer.status_code == 200
    spans = wait_for(collector, "POST /chat", "chat claude-sonnet-5-5")
    request, turn = spans["POST /chat"], spans["chat claude-sonnet-5-5"]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert request.kind == Span.SPAN_KIND_SERVER
    assert (
        attributes(request.attributes).items()
        >= {
            "http.route": "/chat",
            "http.request.method": "POST",
            "http.response.status_code": 200,
        }.items()
    )
    assert (turn.trace_id, turn.parent_span_id) == (request.trace_id, request.span_id)
    assert turn.kind == Span.SPAN_KIND_CLIENT
    described = attributes(turn.attributes)
    assert described.pop("gen_ai.response.time_to_first_chunk") > 0
    usage = described.pop("gen_ai.usage.input_tokens") + described.pop("gen_ai.usage.output_tokens")
    assert usage == answer.json()["tokens_used"]
    assert described == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-5-5",
        "gen_ai.request.max_tokens": 4096,
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ["end_turn"],
        "portside.turn.outcome": "ok",
    }
    sent = b"".join(collector.bodies)
    assert private.encode() not in sent
    assert KEY.encode() not in sent


def test_a_streamed_turn_is_a_child_of_its_request(traced: Service, collector: Collector) -> None:
    traced.post("/chat/stream", message="hello")
    spans = wait_for(collector, "POST /chat/stream", "chat claude-sonnet-5-5")
    assert spans["chat claude-sonnet-5-5"].parent_span_id == spans["POST /chat/stream"].span_id


def test_a_task_run_by_a_worker_is_a_child_of_the_request_that_submitted_it(
    start_service: StartService,
    stand_in: StandIn,
    redis_server: RedisServer,
    collector: Collector,
    tmp_path: Path,
) -> None:
    api = start_traced(start_service, stand_in, redis_server, collector.url)
    common = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url, "REDIS_URL": redis_server.url}
    traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with running_service(tmp_path, "worker", **common, **traces) as worker:
        accepted = api.post("/tasks", message="hello")
        assert accepted.status_code == 202
        spans = wait_for(collector, "POST /tasks", "process tasks", "chat claude-sonnet-5-5")
        turn, attempt, request = spans["chat claude-sonnet-5-5"], spans["process tasks"], spans["POST /tasks"]
        assert {span.trace_id for span in (turn, attempt, request)} == {request.trace_id}
        assert (turn.parent_span_id, attempt.parent_span_id) == (attempt.span_id, request.span_id)
        assert attempt.kind == Span.SPAN_KIND_CONSUMER
        assert attributes(attempt.attributes) == {
            "messaging.system": "portside",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": "tasks",
            "messaging.message.id": accepted.json()["task_id"],
            "portside.task.attempt": 1,
        }
        eventually(lambda: "Task was completed" in worker.log(), "the worker logs it")
        [done] = [json.loads(line) for line in worker.log().splitlines() if "Task was completed" in line]
        assert done["trace_id"] == request.trace_id.hex()


@pytest.mark.parametrize("propagators", ["tracecontext,baggage", "baggage"])
def test_each_attempt_at_a_task_is_a_span_in_the_trace_of_its_request(
    start_service: StartService, stand_in: StandIn, redis_server: RedisServer, collector: Collector, propagators: str
) -> None:
    more = {"OTEL_PROPAGATORS": propagators, "TASK_MAX_ATTEMPTS": "2", "API_RUNS_TASKS": "true"}
    service = start_traced(start_service, stand_in, redis_server, collector.url, **more)
    service.post("/tasks", message=asking(fault=401))
    eventually(lambda: len(_attempts(collector)) == 2, "both attempts are traced", seconds=30)
    attempts = _attempts(collector)
    request = wait_for(collector, "POST /tasks")["POST /tasks"]
    assert {(span.trace_id, span.parent_span_id) for span in attempts} == {(request.trace_id, request.span_id)}
    assert [attributes(span.attributes)["portside.task.attempt"] for span in attempts] == [1, 2]
    assert {attributes(span.attributes)["error.type"] for span in attempts} == {"credentials_refused"}
    assert {span.status.code for span in attempts} == {Status.STATUS_CODE_ERROR}


def _attempts(collector: Collector) -> list[Span]:
    return [span for span in collector.spans() if span.name == "process tasks"]


def test_a_failed_turn_records_its_error_type_and_fails_its_request(traced: Service, collector: Collector) -> None:
    assert traced.post("/chat", message=asking(fault=529, retry_after=9)).status_code == 503
    spans = wait_for(collector, "POST /chat", "chat claude-sonnet-5-5")
    turn = spans["chat claude-sonnet-5-5"]
    assert attributes(turn.attributes)["error.type"] == "overloaded"
    assert turn.status.code == Status.STATUS_CODE_ERROR
    assert not turn.events, "an exception's text could hold content"
    assert spans["POST /chat"].status.code == Status.STATUS_CODE_ERROR


def test_a_client_that_disconnects_is_not_an_error_of_the_turn(traced: Service, collector: Collector) -> None:
    with httpx.stream("POST", f"{traced.url}/chat/stream", json={"message": asking(slow=5)}, timeout=30) as answer:
        next(answer.iter_bytes())
    turn = wait_for(collector, "chat claude-sonnet-5-5")["chat claude-sonnet-5-5"]
    assert attributes(turn.attributes)["portside.turn.outcome"] == "cancelled"
    assert turn.status.code == Status.STATUS_CODE_UNSET


def test_log_lines_of_a_request_have_its_trace_id(traced: Service) -> None:
    httpx.post(f"{traced.url}/chat", json={"message": asking(fault=500)}, headers=TRACEPARENT, timeout=30)
    eventually(lambda: "Request answered" in traced.log(), "the request is logged")
    lines = [json.loads(line) for line in traced.log().splitlines()]
    of_request = {line["event"]: line for line in lines if line.get("trace_id") == TRACE}
    assert set(of_request) == {"Turn with the model failed", "Request answered"}
    assert len({line["span_id"] for line in of_request.values()}) == 2
    assert all(line.get("trace_id") in {None, TRACE} for line in lines)


OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def exemplars(service: Service) -> dict[str, set[str]]:
    """Return the trace ids in the exemplars of each histogram."""
    answer = httpx.get(f"{service.url}/metrics", headers={"Accept": OPENMETRICS})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    found: dict[str, set[str]] = {}
    for family in openmetrics.text_string_to_metric_families(answer.text):  # type: ignore[no-untyped-call]
        traces = {sample.exemplar.labels["trace_id"] for sample in family.samples if sample.exemplar}
        if traces:
            found[family.name] = traces
    return found


def test_histograms_have_exemplars_of_traces(traced: Service) -> None:
    traced.get("/health")
    httpx.post(f"{traced.url}/chat/stream", json={"message": "hello"}, headers=TRACEPARENT, timeout=30)
    names = ("http_request_duration_seconds", "model_request_duration_seconds", "stream_first_token_seconds")
    eventually(lambda: exemplars(traced) == {f"agent_{name}": {TRACE} for name in names}, "each has one")
    assert "trace_id" not in traced.get("/metrics").text, "the plain format has no place for them"


def test_an_unsampled_trace_is_not_an_exemplar(traced: Service) -> None:
    unsampled = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    assert httpx.post(f"{traced.url}/chat", json={"message": "hello"}, headers=unsampled).status_code == 200
    assert exemplars(traced) == {}


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=x", "text/plain;version=;q", "*/*", ";,;"])
def test_metrics_are_returned_for_an_odd_accept_header(traced: Service, accept: str) -> None:
    answer = httpx.get(f"{traced.url}/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    assert "agent_build_info" in answer.text


def test_probes_scrapes_and_background_checks_make_no_spans(traced: Service, collector: Collector) -> None:
    for path in ("/health", "/health/live", "/health/ready", "/metrics"):
        traced.get(path)
    traced.post("/chat", message="hello")
    wait_for(collector, "POST /chat")
    assert {span.name for span in collector.spans()} == {"POST /chat", "chat claude-sonnet-5-5"}


def test_the_standard_variables_set_the_service_name_and_the_endpoint(
    start_service: StartService, stand_in: StandIn, redis_server: RedisServer, collector: Collector
) -> None:
    service = start_traced(
        start_service,
        stand_in,
        redis_server,
        "http://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/v1/traces",
        OTEL_SERVICE_NAME="my-agent",
        OTEL_RESOURCE_ATTRIBUTES="k8s.pod.name=my-pod",
    )
    service.post("/chat", message="hello")
    wait_for(collector, "POST /chat")
    resource = collector.resource()
    assert (resource["service.name"], resource["k8s.pod.name"]) == ("my-agent", "my-pod")
    assert resource["deployment.environment.name"] == "development"
    assert resource["host.name"] == socket.gethostname()


@pytest.mark.parametrize(
    "off", [{"OTEL_TRACES_SAMPLER": "always_off"}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}]
)
def test_the_standard_variables_turn_traces_off(
    start_service: StartService,
    stand_in: StandIn,
    redis_server: RedisServer,
    collector: Collector,
    off: dict[str, str],
) -> None:
    service = start_traced(start_service, stand_in, redis_server, collector.url, **off)
    assert service.post("/chat", message="hello").status_code == 200
    service.terminate()
    assert service.wait() == 0
    assert collector.bodies == []


def test_the_last_spans_are_sent_at_shutdown(
    start_service: StartService, stand_in: StandIn, redis_server: RedisServer, collector: Collector
) -> None:
    service = start_service(
        ANTHROPIC_API_KEY=KEY,
        ANTHROPIC_BASE_URL=stand_in.url,
        REDIS_URL=redis_server.url,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="60000",
    )
    service.post("/chat", message="hello")
    service.terminate()
    assert service.wait() == 0
    assert {span.name for span in collector.spans()} == {"POST /chat", "chat claude-sonnet-5-5"}


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "refusing"])
def test_an_unreachable_collector_affects_no_request_and_is_logged_once(
    start_service: StartService, stand_in: StandIn, redis_server: RedisServer, *, silent: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if not silent:
            listener.close()
        service = start_traced(
            start_service, stand_in, redis_server, endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="1", LOG_LEVEL="DEBUG"
        )
        for _ in range(20):
            assert service.post("/chat", message="hello").status_code == 200

        def failures() -> int:
            return service.log().count("Traces could not be sent")

        eventually(lambda: failures() == 1, "the lost collector is logged", 30)
        for _ in range(20):
            assert service.post("/chat", message="hello").status_code == 200
        service.terminate()
        # The end does not wait for the collector's time-outs.
        assert service.wait(10) == 0
        assert failures() == 1
        loggers = {json.loads(line)["logger"].split(".")[0] for line in service.log().splitlines()}
        assert loggers == {"agent_service", "uvicorn"}


def test_without_a_collector_the_tracing_library_is_not_imported(tmp_path: Path, redis_server: RedisServer) -> None:
    program = (
        "import sys\n"
        "from agent_service.app import create_app\n"
        "from agent_service.config.loading import load\n"
        "create_app(load())\n"
        "unwanted = ('opentelemetry.sdk.trace', 'opentelemetry.exporter')\n"
        "print([name for name in sys.modules if name.startswith(unwanted)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(MODEL_PROVIDER="echo", REDIS_URL=redis_server.url),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[]"
