"""The operator's own metrics (names: DESIGN.md)."""

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from agent_operator.controller.status.budget import WITHIN_BUDGET
from agent_operator.controller.status.dependencies import DEPENDENCIES_REACHABLE
from agent_operator.controller.status.drift import DRIFTED
from agent_operator.controller.status.status import CONDITIONS, SCALING_ACTIVE
from agent_operator.controller.status.tool_servers import TOOLS_READY
from agent_operator.kube.cache import AgentState
from agent_operator.kube.resources import Key


class Metrics:
    """The operator's metrics. `registry` is what Prometheus scrapes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.reconciles = Counter(
            "agent_operator_reconciles",
            "Reconciles of agents, by result: success, invalid (the spec is), refused (by the operator's policy), "
            "hindered (something could not be applied, and a condition of the agent reports why) or error (retried).",
            ["result"],
            registry=self.registry,
        )
        for result in ("success", "invalid", "refused", "hindered", "error"):
            self.reconciles.labels(result)
        self.duration = Histogram(
            "agent_operator_reconcile_duration_seconds", "Time that reconciling an agent took.", registry=self.registry
        )
        self.applies = Counter(
            "agent_operator_applies",
            "Writes to the API server, by kind and operation: create, update or delete.",
            ["kind", "operation"],
            registry=self.registry,
        )

        self.watch_restarts = Counter(
            "agent_operator_watch_restarts",
            "Restarts of watches, by kind: about one in five minutes is normal for each watch.",
            ["kind"],
            registry=self.registry,
        )
        self.is_leader = Gauge(
            "agent_operator_is_leader",
            "Whether this operator does the work (1), or waits to take over (0).",
            registry=self.registry,
        )

    def watch_agents(self, states: Callable[[], Iterable[tuple[Key, AgentState]]]) -> None:
        """Export the agents' statuses at each scrape, per agent and as sums."""
        self.registry.register(_AgentCollector(states))

    def watch_watches(self, silent: Callable[[], Mapping[str, Sequence[float]]]) -> None:
        """Export at each scrape for how many seconds each watch of each kind has made no progress."""
        self.registry.register(_WatchCollector(silent))


class _WatchCollector(Collector):
    def __init__(self, silent: Callable[[], Mapping[str, Sequence[float]]]) -> None:
        self._silent = silent

    def collect(self) -> Iterable[GaugeMetricFamily]:
        number = GaugeMetricFamily(
            "agent_operator_watches",
            "Watches of a kind: one, or one for each namespace that the operator is limited to.",
            labels=["kind"],
        )
        longest = GaugeMetricFamily(
            "agent_operator_watch_silent_seconds",
            "Time since a watch of the kind last delivered an object or was restarted; the longest if there are "
            "several. If nothing changes, up to 290 s are normal; above 420 s the operator is unhealthy.",
            labels=["kind"],
        )
        for kind, seconds in self._silent().items():
            number.add_metric([kind], len(seconds))
            longest.add_metric([kind], max(seconds))
        yield number
        yield longest


class _AgentCollector(Collector):
    def __init__(self, states: Callable[[], Iterable[tuple[Key, AgentState]]]) -> None:
        self._states = states

    def collect(self) -> Iterable[GaugeMetricFamily]:
        agents = list(self._states())
        counts = Counts(each for _, state in agents for each in state.conditions)
        gauge = GaugeMetricFamily(
            "agent_operator_agents", "Agents for which a condition is true.", labels=["condition"]
        )
        for name in (*CONDITIONS, SCALING_ACTIVE, WITHIN_BUDGET, DEPENDENCIES_REACHABLE, TOOLS_READY, DRIFTED):
            gauge.add_metric([name], counts[name, "True"])
        yield gauge
        yield GaugeMetricFamily(
            "agent_operator_agents_not_ready",
            "Agents that are not Ready, for any reason.",
            len(agents) - counts["Ready", "True"],
        )
        yield GaugeMetricFamily(
            "agent_operator_agents_not_scaling",
            "Agents whose autoscaler lacks the value of a metric, or does not report that it has all values.",
            counts[SCALING_ACTIVE, "False"] + counts[SCALING_ACTIVE, "Unknown"],
        )
        yield GaugeMetricFamily(
            "agent_operator_agents_without_dependencies",
            "Agents whose pods report that they cannot use the model API or Redis.",
            counts[DEPENDENCIES_REACHABLE, "False"],
        )
        yield from _of_each(agents)


def _of_each(agents: Iterable[tuple[Key, AgentState]]) -> Iterable[GaugeMetricFamily]:
    condition_of = GaugeMetricFamily(
        "agent_operator_agent_condition",
        "Whether a condition of an agent is true (1) or not (0): Ready, Degraded, ScalingActive where it is scaled, "
        "DependenciesReachable and ToolsReady where its pods report it.",
        labels=["agent_namespace", "agent", "condition"],
    )
    pods_of = GaugeMetricFamily(
        "agent_operator_agent_ready_pods",
        "Pods of an agent that take requests, without its workers.",
        labels=["agent_namespace", "agent"],
    )
    for (namespace, name), (conditions, ready_pods) in agents:
        pods_of.add_metric([namespace, name], ready_pods)
        scaled = any(condition == SCALING_ACTIVE for condition, _ in conditions)
        # ScalingActive counts even while Unknown: if it stays so, nothing scales the agent (no controller reads the
        # values, or KEDA does not run). What no pod reports is not an outage.
        known = {each for each, status in conditions if status != "Unknown"}
        reported = [name for name in (DEPENDENCIES_REACHABLE, TOOLS_READY) if name in known]
        optional = [*([SCALING_ACTIVE] if scaled else []), *reported]
        for condition in ("Ready", "Degraded", *optional):
            condition_of.add_metric([namespace, name, condition], (condition, "True") in conditions)
    yield condition_of
    yield pods_of
