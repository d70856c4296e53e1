"""The Grafana dashboards. Each is declared here in a few lines, from which its JSON is generated."""

import json
from pathlib import Path

from codegen import tool_panels
from codegen.grafana import Dashboard, Panel, Variable, document
from codegen.queries import AGENT, BOTH, BY, POD, PODS, SERVED, WHO, WORKERS, cpu, memory, quantile, rate

# Counted as in the alerts (helm/agent-operator/files/alerts.yaml).
_FAILED = f'agent_http_requests_total{{{AGENT}, method="POST", status=~"5.."}}[$__rate_interval]'
_INTERRUPTED = f"agent_stream_errors_total{{{AGENT}}}[$__rate_interval]"

# Metrics that other programs export too are shown only for pods that also have one of these: otherwise `All` would
# match every program that is scraped.
OF_AGENTS, OF_OPERATORS = "agent_build_info", "agent_operator_is_leader"
# Workers serve no HTTP requests; they are selected together with their agent.
ASKED = "agent_http_requests_total"
_CHOICE = (Variable("namespace", ASKED), Variable("service", ASKED, within="namespace"))
_ONE = (Variable("namespace", ASKED, several=False), Variable("service", ASKED, within="namespace", several=False))

FLEET = Dashboard(
    "portside-fleet",
    "Portside / Fleet",
    _CHOICE,
    (
        Panel("Requests", "reqps", ((WHO, rate("agent_http_requests_total", f"{AGENT}, {SERVED}", BY)),)),
        Panel(
            "Failed requests",
            "percentunit",
            (
                (
                    WHO,
                    f"sum by ({BY}) (rate({_FAILED}) or rate({_INTERRUPTED})) / "
                    + rate("agent_http_requests_total", f'{AGENT}, method="POST", status!~"4.."', BY),
                ),
            ),
            "Messages and tasks that end with 5xx, and interrupted streams, as a share of all but those with 4xx.",
        ),
        Panel(
            "95th percentile of answer time",
            "s",
            ((WHO, quantile(0.95, "agent_http_request_duration_seconds", f'{AGENT}, route="/chat"', BY)),),
        ),
        Panel("Requests in flight", "short", ((WHO, f"sum by ({BY}) (agent_requests_in_flight{{{AGENT}}})"),)),
        Panel("Tokens", "short", ((f"{WHO} {{{{direction}}}}", rate("agent_tokens_total", BOTH, f"{BY}, direction")),)),
        Panel(
            "Budget used",
            "percentunit",
            ((WHO, f"max by ({BY}) (agent_budget_used_ratio{{{AGENT}}})"),),
            "Of this day or month; 0 for agents without a budget.",
        ),
        Panel("Waiting tasks", "short", ((WHO, f"max by ({BY}) (agent_task_queue_depth{{{AGENT}}})"),)),
        Panel(
            "Turns that the model rejects",
            "reqps",
            (
                (
                    WHO,
                    rate("agent_model_requests_total", f'{BOTH}, outcome=~"rate_limited|overloaded"', BY),
                ),
            ),
        ),
        Panel(
            "Pods",
            "short",
            ((WHO, f"count by ({BY}) (agent_build_info{{{BOTH}}})"),),
            "Pods that Prometheus scrapes, ready or not; workers under their own name.",
        ),
        Panel(
            "Requests over a limit",
            "reqps",
            ((f"{WHO} {{{{reason}}}}", rate("agent_rate_limited_total", AGENT, f"{BY}, reason")),),
        ),
        *tool_panels.OF_FLEET,
    ),
)

ONE_AGENT = Dashboard(
    "portside-agent",
    "Portside / One agent",
    _ONE,
    (
        Panel(
            "Requests by status",
            "reqps",
            (
                ("{{status}}", rate("agent_http_requests_total", f"{AGENT}, {SERVED}", "status")),
                ("interrupted streams", f"sum(rate({_INTERRUPTED}))"),
            ),
        ),
        Panel(
            "Requests by route",
            "reqps",
            (("{{method}} {{route}}", rate("agent_http_requests_total", f"{AGENT}, {SERVED}", "method, route")),),
        ),
        Panel(
            "Answer time",
            "s",
            tuple(
                (
                    f"{WHO} {share:.0%}",
                    quantile(share, "agent_http_request_duration_seconds", f'{AGENT}, route="/chat"', BY),
                )
                for share in (0.5, 0.95, 0.99)
            ),
        ),
        Panel(
            "Time to first token of a stream",
            "s",
            tuple(
                (f"{WHO} {share:.0%}", quantile(share, "agent_stream_first_token_seconds", AGENT, BY))
                for share in (0.5, 0.95, 0.99)
            ),
        ),
        Panel(
            "Time of a model turn",
            "s",
            tuple(
                (f"{{{{model}}}} {share:.0%}", quantile(share, "agent_model_request_duration_seconds", BOTH, "model"))
                for share in (0.5, 0.95)
            ),
            "Includes retries.",
        ),
        Panel(
            "Turns by outcome",
            "reqps",
            (("{{outcome}}", rate("agent_model_requests_total", BOTH, "outcome")),),
        ),
        Panel(
            "Turns by client protocol",
            "reqps",
            (("{{api}} {{outcome}}", rate("agent_api_requests_total", BOTH, "api, outcome")),),
        ),
        Panel("Tokens", "short", (("{{model}} {{direction}}", rate("agent_tokens_total", BOTH, "model, direction")),)),
        Panel(
            "Requests in flight per pod",
            "short",
            ((POD, f"sum by ({PODS}) (agent_requests_in_flight{{{AGENT}}})"),),
        ),
        Panel(
            "Requests throttled by the model",
            "short",
            ((POD, f"sum by ({PODS}) (agent_requests_throttled{{{AGENT}}})"),),
            "Autoscaling does not count them: more pods would not help.",
        ),
        Panel(
            "Rejected requests",
            "reqps",
            (
                ("over a limit: {{reason}}", rate("agent_rate_limited_total", AGENT, "reason")),
                ("shed: {{reason}}", rate("agent_requests_shed_total", AGENT, "reason")),
            ),
        ),
        Panel("CPU per pod", "short", ((POD, cpu(BOTH, OF_AGENTS)),)),
        Panel("Memory per pod", "bytes", ((POD, memory(BOTH, OF_AGENTS)),)),
        *tool_panels.OF_AGENT,
    ),
)

QUEUE = Dashboard(
    "portside-queue",
    "Portside / Workers and queue",
    _CHOICE,
    (
        Panel("Waiting tasks", "short", ((WHO, f"max by ({BY}) (agent_task_queue_depth{{{AGENT}}})"),)),
        Panel("Tasks by state", "short", ((f"{WHO} {{{{state}}}}", f"max by ({BY}, state) (agent_tasks{{{AGENT}}})"),)),
        Panel(
            "Submitted tasks",
            "reqps",
            (("{{status}}", rate("agent_http_requests_total", f'{AGENT}, method="POST", route="/tasks"', "status")),),
        ),
        Panel(
            "Turns of the workers by outcome",
            "reqps",
            (
                (
                    "{{outcome}}",
                    rate(
                        "agent_model_requests_total",
                        WORKERS,
                        "outcome",
                    ),
                ),
            ),
        ),
        Panel(
            "Time of a worker's turn",
            "s",
            (
                (
                    f"{WHO} 95%",
                    quantile(
                        0.95,
                        "agent_model_request_duration_seconds",
                        WORKERS,
                        BY,
                    ),
                ),
            ),
        ),
        Panel(
            "Memory per worker",
            "bytes",
            ((POD, memory(WORKERS, OF_AGENTS)),),
        ),
    ),
)

_OPERATOR = 'namespace=~"$namespace"'
OPERATOR = Dashboard(
    "portside-operator",
    "Portside / Operator",
    (Variable("namespace", OF_OPERATORS),),
    (
        Panel(
            "Agents by condition",
            "short",
            (
                (f"{WHO} {{{{condition}}}}", f"max by ({BY}, condition) (agent_operator_agents{{{_OPERATOR}}})"),
                (f"{WHO} not ready", f"max by ({BY}) (agent_operator_agents_not_ready{{{_OPERATOR}}})"),
                (f"{WHO} not scaling", f"max by ({BY}) (agent_operator_agents_not_scaling{{{_OPERATOR}}})"),
            ),
        ),
        Panel("Leader", "short", ((POD, f"max by ({PODS}) (agent_operator_is_leader{{{_OPERATOR}}})"),)),
        Panel(
            "Reconciles by result",
            "ops",
            ((f"{WHO} {{{{result}}}}", rate("agent_operator_reconciles_total", _OPERATOR, f"{BY}, result")),),
        ),
        Panel(
            "Reconcile duration",
            "s",
            tuple(
                (
                    f"{WHO} {share:.0%}",
                    quantile(share, "agent_operator_reconcile_duration_seconds", _OPERATOR, BY),
                )
                for share in (0.5, 0.99)
            ),
        ),
        Panel(
            "Writes",
            "ops",
            (
                (
                    f"{WHO} {{{{operation}}}} {{{{kind}}}}",
                    rate("agent_operator_applies_total", _OPERATOR, f"{BY}, operation, kind"),
                ),
            ),
            "None in a steady state.",
        ),
        Panel(
            "Watch restarts",
            "ops",
            ((f"{WHO} {{{{kind}}}}", rate("agent_operator_watch_restarts_total", _OPERATOR, f"{BY}, kind")),),
        ),
        Panel(
            "Time without watch data",
            "s",
            ((f"{WHO} {{{{kind}}}}", f"max by ({BY}, kind) (agent_operator_watch_silent_seconds{{{_OPERATOR}}})"),),
            "Up to 290 s if nothing changes.",
        ),
        Panel(
            "CPU",
            "short",
            ((POD, cpu(_OPERATOR, OF_OPERATORS)),),
        ),
        Panel(
            "Memory",
            "bytes",
            ((POD, memory(_OPERATOR, OF_OPERATORS)),),
        ),
    ),
)

DASHBOARDS = (FLEET, ONE_AGENT, QUEUE, OPERATOR)


def files(_: Path) -> dict[str, str]:
    """Return each dashboard as JSON, mapped from the path of its file in the operator's chart."""
    folder = "helm/agent-operator/files/dashboards"
    return {f"{folder}/{each.uid}.json": json.dumps(document(each), indent=1) + "\n" for each in DASHBOARDS}
