"""Unusable telemetry settings: telemetry ignores them, and the agent starts anyway."""

import json

import httpx
import pytest

from stand_in import StandIn
from support.agent import KEY, Service, StartService
from support.collector import Collector
from support.eventually import eventually

pytestmark = pytest.mark.timing


def start_traced(start_service: StartService, stand_in: StandIn, endpoint: str, **more: str) -> Service:
    return start_service(
        ANTHROPIC_API_KEY=KEY,
        ANTHROPIC_BASE_URL=stand_in.url,
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_BSP_SCHEDULE_DELAY="100",
        **more,
    )


# Variables that the OpenTelemetry operator, a platform or a user may set in a pod's environment.
ODD = {
    "OTEL_PROPAGATORS": "tracecontext,baggage,b3",
    "OTEL_ATTRIBUTE_COUNT_LIMIT": "many",
    "OTEL_BSP_MAX_QUEUE_SIZE": "0",
    "OTEL_BSP_EXPORT_TIMEOUT": "1s",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "10s",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd",
    "OTEL_TRACES_SAMPLER": "xray",
    "OTEL_TRACES_SAMPLER_ARG": "10%",
    "OTEL_PYTHON_CONTEXT": "nosuch",
    "OTEL_PYTHON_TRACER_PROVIDER": "nosuch",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel,nosuch",
}


def test_unusable_telemetry_settings_are_ignored_and_traces_are_still_sent(
    start_service: StartService, stand_in: StandIn, collector: Collector
) -> None:
    more = {**ODD, "OTEL_EXPORTER_OTLP_HEADERS": "Authorization: Basic s3cret", "OTEL_RESOURCE_ATTRIBUTES": "a=b,c,%zz"}
    service = start_traced(start_service, stand_in, collector.url + "/\n", **more)
    assert service.post("/chat", message="hello").status_code == 200
    eventually(lambda: len(collector.spans()) >= 2, "spans arrive")
    lines = [json.loads(line) for line in service.log().splitlines()]
    (warning,) = [line for line in lines if line["event"] == "Telemetry settings that cannot be used were ignored"]
    assert set(warning["names"]) == set(ODD)
    assert "Traceback" not in service.log()
    assert "s3cret" not in service.log()


@pytest.mark.parametrize(
    "odd",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:s3cret@collector:4318"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:port"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://[::1/v1/traces"},
        {"OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": "nosuch"},
    ],
)
def test_a_broken_telemetry_configuration_never_prevents_the_start(
    start_service: StartService, stand_in: StandIn, odd: dict[str, str]
) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    service = start_service(ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url, **{**endpoint, **odd})
    assert service.post("/chat", message="hello").status_code == 200
    assert service.log().count("Traces are off") == 1
    assert "Traceback" not in service.log()
    assert "s3cret" not in service.log()


@pytest.mark.parametrize("path", ["/", "/v1/traces", "/v1/traces/"])
def test_the_collector_endpoint_may_include_the_traces_path(
    start_service: StartService, stand_in: StandIn, collector: Collector, path: str
) -> None:
    service = start_traced(start_service, stand_in, collector.url + path)
    service.post("/chat", message="hello")
    eventually(lambda: len(collector.spans()) >= 2, "spans arrive")


def test_without_propagators_the_trace_of_a_caller_is_ignored(
    start_service: StartService, stand_in: StandIn, collector: Collector
) -> None:
    service = start_traced(start_service, stand_in, collector.url, OTEL_PROPAGATORS="none")
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    assert httpx.post(f"{service.url}/chat", json={"message": "hello"}, headers=headers, timeout=30).status_code == 200
    eventually(lambda: len(collector.spans()) >= 2, "spans arrive")
    assert trace not in {span.trace_id.hex() for span in collector.spans()}


def test_without_a_collector_unusable_telemetry_settings_log_only_one_line(start_service: StartService) -> None:
    service = start_service(MODEL_PROVIDER="echo", **ODD)
    assert service.post("/chat", message="hello").status_code == 200
    assert service.log().count("were ignored") == 1
    assert "Traceback" not in service.log()
