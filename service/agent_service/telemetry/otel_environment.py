"""The OTEL_* variables, which platforms set in every pod alike: unusable values are removed.

OpenTelemetry reads them when it is imported, and some values end the process with a traceback. So this runs first.
"""

import math
import os
from collections.abc import Callable, MutableMapping
from importlib.metadata import entry_points

import structlog

_log = structlog.get_logger(__name__)

_PREFIX = "OTEL_"

# OpenTelemetry specification, "Environment Variable Specification".
_LIMITS = (
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
)
_SIZES = (
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_SCHEDULE_DELAY",
)
_SECONDS = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
_COMPRESSIONS = ("OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION")
_SAMPLERS = frozenset(
    ("parentbased_" if parent else "") + name
    for name in ("always_on", "always_off", "traceidratio")
    for parent in (False, True)
)

# Variables that list components by the names of their entry points, and the group of those entry points.
_LISTS = {
    "OTEL_PROPAGATORS": "opentelemetry_propagator",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "opentelemetry_resource_detector",
}
_NAMES = {
    "OTEL_PYTHON_CONTEXT": "opentelemetry_context",
    "OTEL_PYTHON_TRACER_PROVIDER": "opentelemetry_tracer_provider",
    "OTEL_PYTHON_METER_PROVIDER": "opentelemetry_meter_provider",
    "OTEL_PYTHON_LOGGER_PROVIDER": "opentelemetry_logger_provider",
}
# A propagator that is always available, and accepts nothing from callers.
_NO_PROPAGATORS = "none"

_left_out: list[str] = []


def repair(environ: MutableMapping[str, str] = os.environ) -> list[str]:
    """Remove what OpenTelemetry cannot use, and return the names of those variables. Values are trimmed.

    Call this before anything imports OpenTelemetry.

    Args:
        environ: environment of the process.
    """
    bad = []
    for name in sorted(name for name in environ if name.startswith(_PREFIX)):
        value = environ[name].strip()
        if name in _LISTS:
            value = ",".join(each.strip() for each in value.split(","))
        kept = _usable(name, value)
        if kept != environ[name]:
            environ[name] = kept
        if kept != value:
            bad.append(name)
        if not kept:
            # Some readers treat an empty value as invalid.
            del environ[name]
    if _number(environ.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE"), 512) > _number(
        environ.get("OTEL_BSP_MAX_QUEUE_SIZE"), 2048
    ):
        bad += [name for name in ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_MAX_QUEUE_SIZE") if environ.pop(name, "")]
    _left_out[:] = bad
    return bad


def warn() -> None:
    """Log the names of what `repair` removed, without the values: headers contain keys.

    Call this once logging is configured.
    """
    if _left_out:
        _log.warning("Telemetry settings that cannot be used were ignored", names=list(_left_out))


def _usable(name: str, value: str) -> str:
    """Return the usable part of a value; an empty string if there is none."""
    if name in _LISTS:
        there = {each.name for each in entry_points(group=_LISTS[name])} | (
            {_NO_PROPAGATORS} if "PROPAG" in name else set()
        )
        return ",".join(each.strip() for each in value.split(",") if each.strip() in there)
    if name in _NAMES:
        return value if value in {each.name for each in entry_points(group=_NAMES[name])} else ""
    check = _CHECKS.get(name)
    return value if check is None or check(value) else ""


def _is_number(least: float, most: float, kind: Callable[[str], float]) -> Callable[[str], bool]:
    def check(value: str) -> bool:
        try:
            return least <= kind(value) <= most
        except (ValueError, OverflowError):
            return False

    return check


_CHECKS: dict[str, Callable[[str], bool]] = {
    **dict.fromkeys(_LIMITS, _is_number(0, 2**31, int)),
    **dict.fromkeys(_SIZES, _is_number(1, 2**31, int)),
    **dict.fromkeys(_SECONDS, _is_number(0.001, 86_400, float)),
    **dict.fromkeys(_COMPRESSIONS, lambda value: value.lower() in {"none", "gzip", "deflate"}),
    "OTEL_TRACES_SAMPLER": lambda value: value.lower() in _SAMPLERS,
    "OTEL_TRACES_SAMPLER_ARG": _is_number(0, 1, float),
}


def _number(value: str | None, default: int) -> float:
    return default if value is None else math.floor(float(value))
