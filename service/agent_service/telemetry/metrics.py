"""The Prometheus metrics of the service. Label values are bounded: route templates and model ids, never raw input."""

from collections.abc import Mapping
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from agent_service.telemetry import multiprocess_metrics
from agent_service.telemetry.caller_metrics import CallerMetrics
from agent_service.telemetry.credential_metrics import CredentialMetrics
from agent_service.telemetry.exposition import Expose, Exposition, expose
from agent_service.telemetry.fallback_metrics import FallbackMetrics

# The `_created` series would double the number of series, and no dashboard or alert of ours reads them.
disable_created_metrics()  # type: ignore[no-untyped-call]

# Seconds. A model takes from 0.2 s to minutes; probes and refusals take milliseconds.
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
_MODEL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)

LIMITS = (
    *("requests", "in_flight", "client_tokens", "client_budget"),
    *("tenant_requests", "tenant_tokens", "tenant_budget", "tokens", "budget"),
)
"""What answers 429, as the label `reason` has it: of a client, of a tenant, and of the whole agent."""


class Metrics:
    """All metrics, in a separate registry, so that several apps can share one process."""

    def __init__(self, *, version: str, provider: str, model: str) -> None:
        self.registry = registry = CollectorRegistry()
        self.callers = CallerMetrics(registry)
        self.model_credential = CredentialMetrics(registry)
        self.fallbacks = FallbackMetrics(registry)
        self.http_requests = Counter(
            "agent_http_requests", "HTTP requests answered.", ["method", "route", "status"], registry=registry
        )
        self.http_duration = Histogram(
            "agent_http_request_duration_seconds",
            "Time from the first byte of a request to the last byte of its answer.",
            ["method", "route"],
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "agent_requests_in_flight",
            "Requests being answered, except probes and scrapes.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.throttled = Gauge(
            "agent_requests_throttled",
            "Requests (not tasks) that wait to retry a call that the model API rejected; more pods do not help.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.rate_limited = Counter(
            "agent_rate_limited",
            "Requests answered with 429, by limit: `requests`, `in_flight`, `client_tokens` or `client_budget` of a "
            "client, `tenant_requests`, `tenant_tokens` or `tenant_budget`, `tokens` or `budget` of the agent.",
            ["reason"],
            registry=registry,
        )
        self.shed = Counter(
            "agent_requests_shed",
            "Requests answered with 503 without being read, because of `overload` or `draining`.",
            ["reason"],
            registry=registry,
        )
        for reason in LIMITS:
            self.rate_limited.labels(reason)
        for reason in ("overload", "draining"):
            self.shed.labels(reason)
        self.first_token = Histogram(
            "agent_stream_first_token_seconds",
            "Time from a request for a stream to its first text.",
            buckets=_MODEL_BUCKETS,
            registry=registry,
        )
        self.stream_errors = Counter(
            "agent_stream_errors",
            "Streams that failed after they had started: with status 200, and a last event that reports an error which "
            "would have been a 5xx.",
            registry=registry,
        )
        self.credentials_refused = Gauge(
            "agent_model_credentials_refused",
            "Whether the model API refuses the key in use (1): pods are not ready until it is replaced or accepted.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.dependency_up = Gauge(
            "agent_dependency_up",
            "Whether a dependency, `model_api`, `runtime` or `redis`, was up (1) at its last check; absent before the "
            "first one, and in workers. `model_primary` is the agent's own provider beside fallbacks. With "
            "several processes: whether it was up for all of them.",
            ["component"],
            multiprocess_mode="livemin",
            registry=registry,
        )
        self.dependency_failing = Gauge(
            "agent_dependency_failing",
            "Whether a dependency is down for this reason (1), in one word; earlier reasons remain, as 0.",
            ["component", "kind"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.api_requests = Counter(
            "agent_api_requests",
            "Turns by the protocol of the client (`native`, `openai`, `anthropic`, `a2a`, `mcp`) and outcome.",
            ["api", "outcome"],
            registry=registry,
        )
        self.model_requests = Counter(
            "agent_model_requests",
            "Turns with the model by outcome; with a runtime, its calls to the model through the gateway.",
            ["model", "outcome"],
            registry=registry,
        )
        self.model_duration = Histogram(
            "agent_model_request_duration_seconds",
            "Time of a whole turn with the model, retries included; with a runtime, of a call through the gateway.",
            ["model"],
            buckets=_MODEL_BUCKETS,
            registry=registry,
        )
        self.runtime_requests = Counter(
            "agent_runtime_requests",
            "Turns by the runtime, by outcome.",
            ["protocol", "outcome"],
            registry=registry,
        )
        self.runtime_duration = Histogram(
            "agent_runtime_request_duration_seconds",
            "Time of a whole turn by the runtime, including the time that it waits for a restart of the runtime.",
            ["protocol"],
            buckets=_MODEL_BUCKETS,
            registry=registry,
        )
        self.tokens = Counter(
            "agent_tokens",
            "Tokens sent to (input) and received from (output) the model.",
            ["model", "direction"],
            registry=registry,
        )
        self.gateway_requests = Counter(
            "agent_gateway_requests",
            "Requests of the runtime to the gateway, by route and status; 499 if the runtime left before the answer.",
            ["route", "status"],
            registry=registry,
        )
        self.tool_calls = Counter(
            "agent_tool_calls",
            "Tool calls by server (the entry in `tools`), tool and outcome: `ok`, `error` (reported by the tool), or "
            "why there is no result.",
            ["server", "tool", "outcome"],
            registry=registry,
        )
        self.tool_duration = Histogram(
            "agent_tool_call_duration_seconds",
            "Time of a tool call, including the time that it waits for a restart of its server.",
            ["server"],
            buckets=_MODEL_BUCKETS,
            registry=registry,
        )
        self.tool_server_up = Gauge(
            "agent_tool_server_up",
            "Whether a server of tools is connected (1). With several processes: whether it is for all of them.",
            ["server"],
            multiprocess_mode="livemin",
            registry=registry,
        )
        self.approvals = Counter(
            "agent_approvals",
            "Tool calls by the decision on them: `approved`, `rejected`, or `expired` because there was none in time.",
            ["decision"],
            registry=registry,
        )
        for decision in ("approved", "rejected", "expired"):
            self.approvals.labels(decision)
        self.approvals_waiting = Gauge(
            "agent_approvals_waiting",
            "Turns of the whole agent that wait for the approval of tool calls; 0 in workers.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self.tool_server_failing = Gauge(
            "agent_tool_server_failing",
            "Whether a server of tools is unavailable for this reason (1), in one word; earlier reasons remain, as 0.",
            ["server", "kind"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.tool_list_hash = Gauge(
            "agent_tool_list_hash",
            "Hash of the names, descriptions and schemas of a server's tools, as last listed: another value means that "
            "the server changed them.",
            ["server"],
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self.damaged_records = Counter(
            "agent_damaged_records",
            "Records in Redis that could not be read and were skipped.",
            registry=registry,
        )
        self.tasks = Gauge(
            "agent_tasks",
            "Background tasks of the whole agent by state; tasks that ended count until they expire. Not published by "
            "workers.",
            ["state"],
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self.queue_depth = Gauge(
            "agent_task_queue_depth",
            "Background tasks of the whole agent that wait, for a worker or for their next attempt; 0 in workers.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self.tasks_due = Gauge(
            "agent_tasks_due",
            "Background tasks of the whole agent that one more worker could start now: not those that wait for their "
            "next attempt, and none while the model API rejects tasks; 0 in workers.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self.budget_ratio = Gauge(
            "agent_budget_used_ratio",
            "Share of the whole agent's budget that is used in this day or month; 0 without a budget and in workers, "
            "NaN while unknown.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self.budget_tokens = Gauge(
            "agent_budget_used_tokens",
            "Tokens of the whole agent's budget that are used in this day or month; 0 in workers, NaN while unknown.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self.budget_cost = Gauge(
            "agent_budget_used_cost",
            "Money of the whole agent's budget that is used in this day or month, by its prices; 0 in workers, NaN "
            "while unknown.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self.budget_stops = Gauge(
            "agent_budget_stops",
            "Whether the agent is stopped because its budget is used up (1); 0 in workers, which also wait.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        build = {"version": version, "provider": provider, "model": model}
        folder = multiprocess_metrics.folder()
        if folder is None:
            for collector in (ProcessCollector, PlatformCollector, GCCollector):
                collector(registry=registry)
            add_build_info(registry, build)
            self._expose: Expose = partial(expose, registry)
        else:
            self._expose = of_all_processes(folder, build)

    def expose(self, accept: str) -> Exposition:
        """Return all metrics, in the format that an `Accept` header with this value asks for."""
        return self._expose(accept)


def of_all_processes(folder: str, build: Mapping[str, str]) -> Expose:
    """Return a function that exposes the metrics of all processes that share `folder`, with `build` as build info."""
    sums = multiprocess_metrics.registry(folder)
    add_build_info(sums, build)
    return partial(multiprocess_metrics.expose, sums)


def add_build_info(registry: CollectorRegistry, build: Mapping[str, str]) -> None:
    """Add the metric `agent_build_info`, the name under which prometheus_client exposes this Info."""
    Info("agent_build", "What is running.", registry=registry).info(dict(build))
