"""The operator's own metrics (names: DESIGN.md)."""

from collections import Counter as Counts
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from agent_operator.controller.budget import WITHIN_BUDGET
from agent_operator.controller.cache import Conditions
from agent_operator.controller.status import CONDITIONS, SCALING_ACTIVE


class Metrics:
    """What the operator counts; `registry` is what is scraped."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.reconciles = Counter(
            "agent_operator_reconciles",
            "Agents that were looked at, by result: success, invalid (spec), hindered (said in a condition) or error.",
            ["result"],
            registry=self.registry,
        )
        for result in ("success", "invalid", "hindered", "error"):
            self.reconciles.labels(result)
        self.duration = Histogram(
            "agent_operator_reconcile_duration_seconds", "Time that looking at an agent took.", registry=self.registry
        )
        self.applies = Counter(
            "agent_operator_applies",
            "Writes to the API server, by kind and operation: create, update or delete.",
            ["kind", "operation"],
            registry=self.registry,
        )

        self.watch_restarts = Counter(
            "agent_operator_watch_restarts",
            "Watches that were begun anew, by kind: a few a minute are as it should be.",
            ["kind"],
            registry=self.registry,
        )
        self.is_leader = Gauge(
            "agent_operator_is_leader",
            "Whether this operator does the work (1), or waits to take over (0).",
            registry=self.registry,
        )

    def watch_agents(self, conditions: Callable[[], Iterable[Conditions]]) -> None:
        """Have the agents counted by condition at each scrape: `conditions` gives those of each agent."""
        self.registry.register(_AgentCollector(conditions))


class _AgentCollector(Collector):
    def __init__(self, conditions: Callable[[], Iterable[Conditions]]) -> None:
        self._conditions = conditions

    def collect(self) -> Iterable[GaugeMetricFamily]:
        agents = list(self._conditions())
        counts = Counts(each for agent in agents for each in agent)
        gauge = GaugeMetricFamily(
            "agent_operator_agents", "Agents for which a condition is true.", labels=["condition"]
        )
        for name in (*CONDITIONS, SCALING_ACTIVE, WITHIN_BUDGET):
            gauge.add_metric([name], counts[name, "True"])
        yield gauge
        yield GaugeMetricFamily(
            "agent_operator_agents_not_ready",
            "Agents that are not Ready, for whatever reason.",
            len(agents) - counts["Ready", "True"],
        )
        yield GaugeMetricFamily(
            "agent_operator_agents_not_scaling",
            "Agents whose autoscaler lacks a value that it is to go by.",
            counts[SCALING_ACTIVE, "False"],
        )
