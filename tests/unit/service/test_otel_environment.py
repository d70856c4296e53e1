"""OTEL_* variables as platforms set them: telemetry ignores what it cannot use."""

import pytest

from agent_service.telemetry.otel_environment import repair


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("OTEL_PROPAGATORS", "tracecontext,baggage,b3", "tracecontext,baggage"),
        ("OTEL_PROPAGATORS", "b3", None),
        ("OTEL_PROPAGATORS", "b3,,xray", None),
        ("OTEL_PROPAGATORS", " tracecontext, baggage\n", "tracecontext,baggage"),
        ("OTEL_PROPAGATORS", "none", "none"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "many", None),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "-1", None),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "1e3", None),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "10\n", "10"),
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "", None),
        ("OTEL_BSP_SCHEDULE_DELAY", "1s", None),
        ("OTEL_BSP_SCHEDULE_DELAY", "0", None),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100", None),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5000", None),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", None),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "nan", None),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", None),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "gzip"),
        ("OTEL_TRACES_SAMPLER", "xray", None),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "10%", None),
        ("OTEL_TRACES_SAMPLER_ARG", "2", None),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25", "0.25"),
        ("OTEL_PYTHON_CONTEXT", "nosuch", None),
        ("OTEL_PYTHON_TRACER_PROVIDER", "nosuch", None),
        ("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "otel,nosuch", "otel"),
        ("OTEL_SERVICE_NAME", " my-agent\n", "my-agent"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic abc==", "Authorization=Basic abc=="),
    ],
)
def test_a_value_is_trimmed_and_dropped_if_unusable(name: str, value: str, kept: str | None) -> None:
    environ = {name: value, "OTHER": " kept \n"}
    left_out = repair(environ)
    assert environ.get(name) == kept
    assert environ["OTHER"] == " kept \n"
    only_trimmed = (kept or "") == value.replace(", ", ",").strip()
    assert left_out == ([] if only_trimmed else [name])
