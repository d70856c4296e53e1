"""The panels about the tools of agents. Those of an agent without tools are empty."""

from codegen.grafana import Panel
from codegen.queries import AGENT, BOTH, BY, WHO, quantile, rate

# Counted as in the alerts (helm/agent-operator/files/alerts.yaml), which leave out what the model, an approver or the
# caller is the cause of.
_OF_OTHERS = "unknown_tool|not_approved|cancelled"
_COUNTED = f'{BOTH}, outcome!~"{_OF_OTHERS}"'
_FAILED = f'{BOTH}, outcome!~"ok|{_OF_OTHERS}"'

OF_FLEET = (
    Panel(
        "Tool servers that are down",
        "short",
        ((WHO, f"sum by ({BY}) (1 - max by ({BY}, server) (agent_tool_server_up{{{BOTH}}}))"),),
        "Servers that no pod of the agent can use; workers under their own name.",
    ),
    Panel(
        "Turns that wait for an approval",
        "short",
        ((WHO, f"max by ({BY}) (agent_approvals_waiting{{{AGENT}}})"),),
    ),
)

OF_AGENT = (
    Panel(
        "Tool calls by outcome",
        "ops",
        (("{{server}} {{outcome}}", rate("agent_tool_calls_total", BOTH, "server, outcome")),),
    ),
    Panel(
        "Failed tool calls",
        "percentunit",
        (
            (
                "{{server}} {{tool}}",
                rate("agent_tool_calls_total", _FAILED, "server, tool")
                + " / "
                + rate("agent_tool_calls_total", _COUNTED, "server, tool"),
            ),
        ),
        "Calls without a result, or with an error that the tool reports, as a share of all but those to tools that do "
        "not exist, that were not approved, or that were cancelled.",
    ),
    Panel(
        "Duration of tool calls",
        "s",
        tuple(
            (f"{{{{server}}}} {share:.0%}", quantile(share, "agent_tool_call_duration_seconds", BOTH, "server"))
            for share in (0.5, 0.95, 0.99)
        ),
    ),
    Panel(
        "Pods that can use a tool server",
        "percentunit",
        (("{{server}}", f"avg by (server) (agent_tool_server_up{{{BOTH}}})"),),
        "Share of the pods, workers included, that are connected.",
    ),
    Panel(
        "Turns that wait for an approval",
        "short",
        ((WHO, f"max by ({BY}) (agent_approvals_waiting{{{AGENT}}})"),),
        "Of the whole agent.",
    ),
    Panel(
        "Decisions on tool calls",
        "ops",
        (("{{decision}}", rate("agent_approvals_total", BOTH, "decision")),),
        "An expired call was not decided in time.",
    ),
)
